"""The flags that `bootstrap` and `envoy` share: who the proxy is, and how it reaches the control plane."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from fairlead.addresses import parse_address
from fairlead.bootstraps.bootstrap import (
    EGRESS_PORT,
    INGRESS_PORT,
    AgentSocket,
    Certificates,
    ProxyIdentity,
    Token,
    envoy_bootstrap,
    grpc_bootstrap,
    token_files,
)
from fairlead.bootstraps.overload import MAX_CONNECTIONS
from fairlead.commands.flags import parameter
from fairlead.errors import UsageError, oserror_words
from mesh.model import Upstream
from mesh.upstreams import FORM, MOST, read_upstream

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_PLACE_LENGTH = 253
_ADMIN_PORTS = {"gateway": 9901, "sidecar": 15000}
_SIDECARS_ONLY = ("service", "port", "ingress_port", "egress_port", "upstream")
# gRPC takes the name from the address.
_ENVOYS_ONLY = (
    "agent",
    "sotw",
    "admin_port",
    "xds_server_name",
    "token_file",
    "max_connections",
    "max_heap",
    "report_times",
)


def _port(about: str, *, least: int = 1) -> Any:
    return Annotated[int | None, Option(min=least, max=65535, metavar="PORT", help=about)]


class ProxyKind(StrEnum):
    """What stands in a bootstrap's node id."""

    gateway = "gateway"
    sidecar = "sidecar"
    grpc = "grpc"


PROXY_FLAGS = (
    parameter("name", Annotated[str, Option(help="Name of the Gateway, or of the workload beside the sidecar.")], ...),
    parameter("namespace", Annotated[str, Option("--namespace", "-n", help="Its namespace.")], "default"),
    parameter("service", Annotated[str, Option(help="Sidecar: the Service it stands beside; default: the name.")], ""),
    parameter("port", _port("Sidecar: where that service listens on loopback."), None),
    parameter("ingress_port", _port(f"Sidecar: port for requests from others; default: {INGRESS_PORT}."), None),
    parameter("egress_port", _port(f"Sidecar: port for the service's own requests; default: {EGRESS_PORT}."), None),
    parameter(
        "upstream",
        Annotated[
            list[str],
            Option(metavar=FORM, help="Sidecar: a port on loopback for a TCP port of a service; may be repeated."),
        ],
        [],
    ),
    parameter("instance", Annotated[str, Option(help="Tells replicas apart; default: the host's name.")], ""),
    parameter("region", Annotated[str, Option(help="The region where it runs.")], ""),
    parameter("zone", Annotated[str, Option(help="The zone: endpoints that are for it come first.")], ""),
    parameter("xds", Annotated[str, Option(metavar="HOST:PORT", help="The control plane.")], "127.0.0.1:18000"),
    parameter("sotw", Annotated[bool, Option("--sotw", help="State-of-the-world ADS instead of delta.")], False),
    parameter("admin_port", _port("Envoy's admin port on loopback. 0: any free one.", least=0), None),
    parameter(
        "max_connections",
        Annotated[int, Option(min=1, max=2**31 - 1, metavar="N", help="Connections from clients; more are refused.")],
        MAX_CONNECTIONS,
    ),
    parameter(
        "max_heap",
        Annotated[
            int | None,
            Option(min=64, max=2**24, metavar="MIB", help="Its heap: near it, Envoy sheds load. Default: any."),
        ],
        None,
    ),
    parameter(
        "report_times",
        Annotated[bool, Option("--report-times", help="Tell how long answers take, for Rollouts that ask for it.")],
        False,
    ),
    parameter("cert", Annotated[str, Option(metavar="FILE", help="Mutual TLS: the proxy's certificate chain.")], ""),
    parameter("key", Annotated[str, Option(metavar="FILE", help="Mutual TLS: its private key.")], ""),
    parameter("ca", Annotated[str, Option(metavar="FILE", help="TLS: who signs the control plane.")], ""),
    parameter(
        "token_file",
        Annotated[str, Option(metavar="FILE", help="The proxy's token, instead of a certificate and its key.")],
        "",
    ),
    parameter("agent", Annotated[str, Option(metavar="SOCKET", help="Its identity comes from the agent there.")], ""),
    parameter(
        "xds_server_name",
        Annotated[str, Option(help="Name in its certificate, or its SPIFFE ID; default: the host of --xds.")],
        "",
    ),
)
_ABSENT: Mapping[str, Any] = {flag.name: flag.default for flag in PROXY_FLAGS}


def bootstrap_from(
    kind: ProxyKind, flags: Mapping[str, Any], *, default_instance: str = "", folder: str = ""
) -> dict[str, Any]:
    """The bootstrap that the flags describe; with a token it refers to files in `folder` (`token_files_from`).

    Raises:
        UsageError: they do not fit together.
    """
    _refuse_misplaced(kind, flags)
    xds = parse_address(flags["xds"], what="--xds")
    if xds.port == 0:
        raise UsageError("--xds: a proxy cannot connect to port 0. Fix: name the port that `fairlead serve` listens on")
    proxy = _identity(kind, flags, default_instance=default_instance)
    token = _token(flags, folder=folder, default_name=xds.host)
    agent = _agent(flags, default_name=xds.host)
    certificates = None if token is not None or agent is not None else _certificates(flags, default_name=xds.host)
    if kind is ProxyKind.grpc:
        return grpc_bootstrap(proxy, xds=xds, certificates=certificates)
    admin_port = flags["admin_port"]
    return envoy_bootstrap(
        proxy,
        xds=xds,
        admin_port=_ADMIN_PORTS[kind.value] if admin_port is None else admin_port,
        sotw=flags["sotw"],
        certificates=certificates,
        token=token,
        agent=agent,
        max_connections=flags["max_connections"],
        max_heap=flags["max_heap"] * 2**20 if flags["max_heap"] is not None else None,
        report_times=flags["report_times"],
    )


def _agent(flags: Mapping[str, Any], *, default_name: str) -> AgentSocket | None:
    path = flags["agent"]
    if not path:
        return None
    if flags["cert"] or flags["key"] or flags["token_file"]:
        raise UsageError("--agent gives the certificate. Fix: leave --cert, --key and --token-file out")
    if not path.startswith(("/", "@")):  # Envoy looks for it from wherever it is started
        raise UsageError(f"--agent: Envoy needs the whole path, from /. Fix: not {path!r}")
    return AgentSocket(path, flags["xds_server_name"] or default_name)


def token_files_from(flags: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The files that a bootstrap with a token refers to, name → document; none without."""
    return token_files(token=flags["token_file"], ca=flags["ca"]) if flags["token_file"] else {}


def _token(flags: Mapping[str, Any], *, folder: str, default_name: str) -> Token | None:
    if not flags["token_file"]:
        return None
    if flags["cert"] or flags["key"]:
        raise UsageError("--token-file and a certificate exclude each other. Fix: leave one of them out")
    for flag in ("token-file", "ca"):
        value = flags[flag.replace("-", "_")]
        if not value:
            raise UsageError("a token is for nobody but the control plane. Fix: add --ca, who signs its certificate")
        if not value.startswith("/"):  # Envoy looks for it from wherever it is started
            raise UsageError(f"--{flag}: with a token, Envoy needs the whole path, from /. Fix: not {value!r}")
    return Token(folder, flags["xds_server_name"] or default_name)


def _identity(kind: ProxyKind, flags: Mapping[str, Any], *, default_instance: str) -> ProxyIdentity:
    for flag in ("name", "namespace", "service"):
        if flags[flag] and not _DNS_LABEL.fullmatch(flags[flag]):
            raise UsageError(f"--{flag}: {flags[flag]!r} is no name. Fix: small letters, digits, '-' and '.'")
    instance = flags["instance"] or default_instance or socket.gethostname()
    if "~" in instance or not instance.isprintable():
        raise UsageError(
            f"--instance: {instance!r}: '~' and control characters cannot be part of a node id. Fix: another name"
        )
    for flag in ("region", "zone"):
        if len(flags[flag]) > _PLACE_LENGTH or not flags[flag].isprintable():
            raise UsageError(
                f"--{flag}: at most {_PLACE_LENGTH} printable characters. Fix: the name as your platform has it"
            )
    if kind is ProxyKind.sidecar:
        return _sidecar(flags, instance=instance)
    return ProxyIdentity(
        kind="grpc" if kind is ProxyKind.grpc else "gateway",
        name=flags["name"],
        namespace=flags["namespace"],
        instance=instance,
        region=flags["region"],
        zone=flags["zone"],
    )


def _sidecar(flags: Mapping[str, Any], *, instance: str) -> ProxyIdentity:
    if flags["port"] is None:
        raise UsageError("a sidecar needs --port. Fix: --port N, where the service beside it listens on 127.0.0.1")
    ports = {
        "--port": flags["port"],
        "--ingress-port": flags["ingress_port"] or INGRESS_PORT,
        "--egress-port": flags["egress_port"] or EGRESS_PORT,
    }
    if len(set(ports.values())) < len(ports):
        told = ", ".join(f"{flag} {port}" for flag, port in ports.items())
        raise UsageError(f"two of {told} are the same, and only one can listen there. Fix: make them three")
    return ProxyIdentity(
        kind="sidecar",
        name=flags["name"],
        namespace=flags["namespace"],
        instance=instance,
        service=flags["service"] or flags["name"],
        port=ports["--port"],
        ingress_port=ports["--ingress-port"],
        egress_port=ports["--egress-port"],
        upstreams=_upstreams(flags, set(ports.values())),
        region=flags["region"],
        zone=flags["zone"],
    )


def _upstreams(flags: Mapping[str, Any], taken: set[int]) -> tuple[Upstream, ...]:
    found: dict[int, Upstream] = {}
    for text in flags["upstream"]:
        upstream = read_upstream(text, flags["namespace"])
        if upstream is None:
            raise UsageError(f"--upstream: {text!r} is not {FORM}. Fix: write it like 5432=shop/db:5432")
        if upstream.listen in found or upstream.listen in taken:
            raise UsageError(
                f"--upstream: port {upstream.listen} is taken already, and one can listen there. Fix: choose another"
            )
        found[upstream.listen] = upstream
    if len(found) > MOST:
        raise UsageError(f"--upstream: more than {MOST}. Fix: leave some out")
    return tuple(upstream for _, upstream in sorted(found.items()))


def _refuse_misplaced(kind: ProxyKind, flags: Mapping[str, Any]) -> None:
    """A flag that means nothing for this kind of proxy is a mistake, not to be passed over."""
    misplaced = {
        ProxyKind.gateway: (_SIDECARS_ONLY, "sidecars"),
        ProxyKind.sidecar: ((), ""),
        ProxyKind.grpc: (_SIDECARS_ONLY + _ENVOYS_ONLY, "Envoys"),
    }
    names, owners = misplaced[kind]
    given = [f"--{name.replace('_', '-')}" for name in names if flags[name] != _ABSENT[name]]
    if given:
        what = "a gRPC client" if kind is ProxyKind.grpc else "a gateway"
        raise UsageError(f"{', '.join(given)}: for {owners}, and this is {what}. Fix: leave it out")


def _certificates(flags: Mapping[str, Any], *, default_name: str) -> Certificates | None:
    given = {flag: flags[flag] for flag in ("cert", "key", "ca")}
    if not any(given.values()):
        if flags["xds_server_name"]:
            raise UsageError("--xds-server-name needs TLS. Fix: add --cert, --key and --ca, or --token-file and --ca")
        return None
    missing = [f"--{flag}" for flag, value in given.items() if not value]
    if missing:
        raise UsageError(f"mutual TLS needs --cert, --key and --ca. Fix: add {', '.join(missing)} (or --token-file)")
    return Certificates(**given, server_name=flags["xds_server_name"] or default_name)


def in_plaintext(flags: Mapping[str, Any]) -> str:
    """A warning where the proxy would ask for plaintext elsewhere than on its own machine; empty where not."""
    xds = parse_address(flags["xds"], what="--xds")
    if xds.is_loopback or flags["cert"] or flags["token_file"] or flags["agent"]:
        return ""
    return (
        f"{xds} is asked in plaintext, which `fairlead serve` offers on loopback only."
        " Fix: --cert, --key and --ca, or --token-file and --ca, or --agent"
    )


def unreadable(flags: Mapping[str, Any]) -> list[str]:
    """The files of certificates and of the token that cannot be read on this machine, each in a sentence."""
    found = []
    for flag in ("cert", "key", "ca", "token_file"):
        try:
            if flags[flag]:
                Path(flags[flag]).open("rb").close()
        except OSError as error:
            found.append(f"--{flag.replace('_', '-')}: cannot read {flags[flag]}: {oserror_words(error)}")
    return found
