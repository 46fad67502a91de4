"""The flags that `bootstrap` and `envoy` share: who the proxy is, and how it reaches the control plane."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from typer import Option

from fairlead.addresses import parse_address
from fairlead.bootstrap import (
    EGRESS_PORT,
    INGRESS_PORT,
    Certificates,
    ProxyIdentity,
    envoy_bootstrap,
    grpc_bootstrap,
)
from fairlead.commands.flags import parameter
from fairlead.errors import UsageError

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_ADMIN_PORTS = {"gateway": 9901, "sidecar": 15000}


class ProxyKind(StrEnum):
    """What stands in a bootstrap's node id."""

    gateway = "gateway"
    sidecar = "sidecar"
    grpc = "grpc"


PROXY_FLAGS = (
    parameter("name", Annotated[str, Option(help="Name of the Gateway, or of the workload beside the sidecar.")], ...),
    parameter("namespace", Annotated[str, Option("--namespace", "-n", help="Its namespace.")], "default"),
    parameter("service", Annotated[str, Option(help="Sidecar: the Service it stands beside; default: the name.")], ""),
    parameter("port", Annotated[int, Option(help="Sidecar: where that service listens on loopback.")], 0),
    parameter("ingress_port", Annotated[int, Option(help="Sidecar: port for requests from others.")], INGRESS_PORT),
    parameter("egress_port", Annotated[int, Option(help="Sidecar: port for the service's own requests.")], EGRESS_PORT),
    parameter("instance", Annotated[str, Option(help="Tells replicas apart; default: the host's name.")], ""),
    parameter("xds", Annotated[str, Option(metavar="HOST:PORT", help="The control plane.")], "127.0.0.1:18000"),
    parameter("sotw", Annotated[bool, Option("--sotw", help="State-of-the-world ADS instead of delta.")], False),
    parameter(
        "admin_port", Annotated[int | None, Option(help="Envoy's admin port on loopback. 0: any free one.")], None
    ),
    parameter("cert", Annotated[str, Option(metavar="FILE", help="Mutual TLS: the proxy's certificate chain.")], ""),
    parameter("key", Annotated[str, Option(metavar="FILE", help="Mutual TLS: its private key.")], ""),
    parameter("ca", Annotated[str, Option(metavar="FILE", help="Mutual TLS: who signs the control plane.")], ""),
    parameter(
        "xds_server_name", Annotated[str, Option(help="Name in its certificate; default: the host of --xds.")], ""
    ),
)


def bootstrap_from(kind: ProxyKind, flags: Mapping[str, Any], *, default_instance: str = "") -> dict[str, Any]:
    """The bootstrap that the flags describe.

    Raises:
        UsageError: they do not fit together.
    """
    xds = parse_address(flags["xds"], what="--xds")
    proxy = _identity(kind, flags, default_instance=default_instance)
    certificates = _certificates(flags, default_name=xds.host)
    if kind is ProxyKind.grpc:
        return grpc_bootstrap(proxy, xds=xds, certificates=certificates)
    admin_port = flags["admin_port"]
    return envoy_bootstrap(
        proxy,
        xds=xds,
        admin_port=_ADMIN_PORTS[kind.value] if admin_port is None else admin_port,
        sotw=flags["sotw"],
        certificates=certificates,
    )


def _identity(kind: ProxyKind, flags: Mapping[str, Any], *, default_instance: str) -> ProxyIdentity:
    for flag in ("name", "namespace", "service"):
        if flags[flag] and not _DNS_LABEL.fullmatch(flags[flag]):
            raise UsageError(f"--{flag}: {flags[flag]!r} is no name: small letters, digits, '-' and '.'")
    instance = flags["instance"] or default_instance or socket.gethostname()
    if "~" in instance or not instance.isprintable():
        raise UsageError(f"--instance: {instance!r}: '~' and control characters cannot be part of a node id")
    if kind is not ProxyKind.sidecar:
        if flags["service"] or flags["port"]:
            raise UsageError(f"--service and --port are for sidecars, not for a {kind.value}")
        return ProxyIdentity(
            kind="grpc" if kind is ProxyKind.grpc else "gateway",
            name=flags["name"],
            namespace=flags["namespace"],
            instance=instance,
        )
    if not 0 < flags["port"] < 65536:
        raise UsageError("a sidecar needs --port N: where the service beside it listens on 127.0.0.1")
    return ProxyIdentity(
        kind="sidecar",
        name=flags["name"],
        namespace=flags["namespace"],
        instance=instance,
        service=flags["service"] or flags["name"],
        port=flags["port"],
        ingress_port=flags["ingress_port"],
        egress_port=flags["egress_port"],
    )


def _certificates(flags: Mapping[str, Any], *, default_name: str) -> Certificates | None:
    given = {flag: flags[flag] for flag in ("cert", "key", "ca")}
    if not any(given.values()):
        return None
    missing = [f"--{flag}" for flag, value in given.items() if not value]
    if missing:
        raise UsageError(f"mutual TLS needs --cert, --key and --ca; missing: {', '.join(missing)}")
    return Certificates(**given, server_name=flags["xds_server_name"] or default_name)
