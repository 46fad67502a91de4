"""Bootstraps: the little an Envoy or a gRPC client must be told before Fairlead can tell it the rest.

Pure: a `ProxyIdentity` and a few choices in, the document out. `fairlead bootstrap` prints it, `fairlead envoy` runs
Envoy with it, `envoy-configs/` holds the same documents (`tests/unit/fairlead/bootstraps/test_bootstrap.py` compares).
"""

from __future__ import annotations

import posixpath
from typing import Any, Literal

import msgspec

from fairlead.addresses import Address
from fairlead.bootstraps import ready
from fairlead.bootstraps.overload import MAX_CONNECTIONS, overload_manager
from mesh.model import Upstream
from mesh.upstreams import written
from mesh.validations.regexes import MAX_PROGRAM_SIZE

Kind = Literal["gateway", "sidecar", "grpc"]
JSON = dict[str, Any]

AGENT_CLUSTER = "fairlead_agent"
XDS_CLUSTER = "fairlead"
EGRESS_PORT = 15001
INGRESS_PORT = 15006
TOKEN_FILE = "token.yaml"  # noqa: S105 - the name of a file
CA_FILE = "ca.yaml"
_TYPE = "type.googleapis.com/"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_UPSTREAM_CODEC: JSON = {
    "name": "envoy.filters.http.upstream_codec",
    "typed_config": {"@type": _TYPE + "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"},
}
_UPSTREAM_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
# The layer below: what Fairlead relies on. The `admin` layer above it is what `POST /runtime_modify` writes.
_BASE_LAYER: JSON = {
    "name": "fairlead",
    "static_layer": {"re2.max_program_size.error_level": MAX_PROGRAM_SIZE},
}


class ProxyIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Who a proxy says it is: `node.id` and `node.metadata.fairlead` (DESIGN §2, "Audiences").

    A gateway's `name` is its Gateway's. A sidecar's is its workload's; `service` is the Service it stands beside, at
    `port` on loopback. The three ports are a sidecar's only. `region` and `zone` are where it runs.
    """

    kind: Kind
    name: str
    namespace: str = "default"
    instance: str = "1"
    service: str = ""
    port: int = 0
    ingress_port: int = 0
    egress_port: int = 0
    upstreams: tuple[Upstream, ...] = ()
    region: str = ""
    zone: str = ""

    @property
    def node_id(self) -> str:
        """`<kind>~<namespace>~<name>~<instance>`."""
        return f"{self.kind}~{self.namespace}~{self.name}~{self.instance}"

    def node(self, *, agent: bool = False) -> JSON:
        """The `core.v3.Node` without what the proxy adds itself; `agent`: one gives it a workload's certificate."""
        about: JSON = {"kind": self.kind, "namespace": self.namespace, "name": self.name}
        if self.kind == "sidecar":
            about |= {
                "service": self.service or self.name,
                "port": self.port,
                "ingress_port": self.ingress_port,
                "egress_port": self.egress_port,
            }
            if self.upstreams:
                about["upstreams"] = [written(upstream) for upstream in self.upstreams]
        if agent:
            about["agent"] = True
        where = {key: value for key, value in (("region", self.region), ("zone", self.zone)) if value}
        return {
            "id": self.node_id,
            "cluster": f"{self.name}.{self.namespace}",
            "metadata": {"fairlead": about},
            **({"locality": where} if where else {}),
        }


class Token(msgspec.Struct, frozen=True):
    """How a proxy without a certificate reaches the control plane: by what `token_files` describes, kept in `folder`.

    `server_name` is the name (or address) that the control plane's certificate must carry.
    """

    folder: str
    server_name: str


class AgentSocket(msgspec.Struct, frozen=True):
    """Where the agent serves SDS. `server_name`: the name in the control plane's certificate; empty for plaintext."""

    path: str
    server_name: str = ""


class Readiness(msgspec.Struct, frozen=True):
    """Where probes ask `GET /ready`: 200 while the proxy takes traffic, 503 once it drains (see `ready.listener`)."""

    port: int = 15021
    host: str = "0.0.0.0"  # noqa: S104 - probes come from outside


class Certificates(msgspec.Struct, frozen=True):
    """PEM files for mutual TLS with the control plane, and the name its certificate must carry."""

    cert: str
    key: str
    ca: str
    server_name: str


def envoy_bootstrap(
    proxy: ProxyIdentity,
    *,
    xds: Address,
    admin_port: int = 0,
    admin_socket: str = "",
    sotw: bool = False,
    certificates: Certificates | None = None,
    token: Token | None = None,
    readiness: Readiness | None = None,
    agent: AgentSocket | None = None,
    max_connections: int = MAX_CONNECTIONS,
    max_heap: int | None = None,
    report_times: bool = False,
) -> JSON:
    """The bootstrap of an Envoy: where its control plane is, and a listener for its administrator on loopback.

    `admin_socket` is a Unix socket for the administrator in place of a port (`@name`: an abstract one). No cluster that
    a user can make reaches it, whereas an external name may well resolve to loopback.

    It shows the control plane a certificate or a token, or nothing (which is for loopback). With an `agent` its
    certificate and what it trusts come from there, over SDS; Envoy 1.40 takes that for the control plane's cluster too,
    so that no key is ever in a file.

    Clusters and listeners are waited for without a time limit (`initial_fetch_timeout: 0s`): a proxy that has no
    configuration is not ready, and says so at `/ready`. gRPC keepalive notices a control plane that vanished without
    closing its connections; the back-off is short because a reconnect with nothing new costs next to nothing (rule D8).

    Regular expressions are allowed the size that Fairlead's own validation allows: Envoy refuses more than 100 RE2
    instructions unless its runtime says otherwise. Load reports (LRS) go to the control plane too. What happens as
    connections reach `max_connections`, or the heap `max_heap` bytes, is in `overload`. `report_times`: all
    metrics go to the control plane every five seconds, which Rollouts need to judge latency and nothing else does.
    """
    over_ads = {"resource_api_version": "V3", "initial_fetch_timeout": "0s", "ads": {}}
    return {
        "node": proxy.node(agent=agent is not None),
        "admin": {"address": _admin(admin_port, admin_socket)},
        "dynamic_resources": {
            "ads_config": {
                **_grpc(api_type="GRPC" if sotw else "DELTA_GRPC"),
                "set_node_on_first_message_only": True,
            },
            "cds_config": over_ads,
            "lds_config": over_ads,
        },
        "static_resources": {
            "clusters": [
                _xds_cluster(xds, certificates=certificates, token=token, agent=agent),
                *([_agent_cluster(agent)] if agent is not None else []),
            ],
            **({"listeners": [ready.listener(readiness.host, readiness.port)]} if readiness is not None else {}),
        },
        "cluster_manager": {"load_stats_config": _grpc(api_type="GRPC")},
        "layered_runtime": {"layers": [_BASE_LAYER, {"name": "admin", "admin_layer": {}}]},
        **({"stats_sinks": [_metrics_sink()]} if report_times else {}),
        "overload_manager": overload_manager(max_connections=max_connections, max_heap=max_heap),
    }


def _admin(port: int, socket: str) -> JSON:
    return {"pipe": {"path": socket}} if socket else _socket_address(Address("127.0.0.1", port))


def _grpc(*, api_type: str) -> JSON:
    """The control plane as a source, an `ApiConfigSource`."""
    retry = {"retry_back_off": {"base_interval": "0.25s", "max_interval": "5s"}}
    return {
        "api_type": api_type,
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": XDS_CLUSTER, "retry_policy": retry}}],
    }


def _metrics_sink() -> JSON:
    """Metrics in messages of some 100 kB, so that none holds up the streams of others while it is read."""
    return {
        "name": "envoy.stat_sinks.metrics_service",
        "typed_config": {
            "@type": _TYPE + "envoy.config.metrics.v3.MetricsServiceConfig",
            "transport_api_version": "V3",
            "grpc_service": {"envoy_grpc": {"cluster_name": XDS_CLUSTER}},
            "report_counters_as_deltas": True,
            "emit_tags_as_labels": True,
            "histogram_emit_mode": "HISTOGRAM",
            "batch_size": 1_000,
        },
    }


def _agent_cluster(agent: AgentSocket) -> JSON:
    """The agent beside the proxy (or SPIRE's), whom only this machine's user can reach."""
    address = {"pipe": {"path": agent.path}}
    return {
        "name": AGENT_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": AGENT_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS: {
                "@type": _TYPE + _HTTP_OPTIONS,
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }


def agent_secret(name: str) -> JSON:
    """A secret of that name from the agent."""
    retry = {"retry_back_off": {"base_interval": "0.25s", "max_interval": "5s"}}
    source = {
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": AGENT_CLUSTER, "retry_policy": retry}}],
    }
    return {
        "name": name,
        "sds_config": {"resource_api_version": "V3", "initial_fetch_timeout": "0s", "api_config_source": source},
    }


def _by_agent(agent: AgentSocket) -> JSON:
    return {
        "tls_certificate_sds_secret_configs": [agent_secret("default")],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": [_name(agent.server_name)]},
            "validation_context_sds_secret_config": agent_secret("ROOTCA"),
        },
    }


def _xds_cluster(
    xds: Address, *, certificates: Certificates | None, token: Token | None, agent: AgentSocket | None = None
) -> JSON:
    cluster: JSON = {
        "name": XDS_CLUSTER,
        "type": "STATIC" if xds.is_ip else "STRICT_DNS",
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": XDS_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _socket_address(xds)}}]}],
        },
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS: {
                "@type": _TYPE + _HTTP_OPTIONS,
                "explicit_http_config": {
                    "http2_protocol_options": {"connection_keepalive": {"interval": "20s", "timeout": "10s"}}
                },
            }
        },
    }
    if token is not None:
        cluster["transport_socket"] = _tls(token.server_name, _trust_by_file(token))
        options: JSON = cluster["typed_extension_protocol_options"][_HTTP_OPTIONS]
        options["http_filters"] = [_token_injector(token), _UPSTREAM_CODEC]
    if certificates is not None:
        cluster["transport_socket"] = _tls(certificates.server_name, _mutual(certificates))
    if agent is not None and agent.server_name:
        cluster["transport_socket"] = _tls(agent.server_name, _by_agent(agent))
    return cluster


def _mutual(certificates: Certificates) -> JSON:
    return {
        "tls_certificates": [
            {"certificate_chain": {"filename": certificates.cert}, "private_key": {"filename": certificates.key}}
        ],
        "validation_context": {
            "trusted_ca": {"filename": certificates.ca},
            "match_typed_subject_alt_names": [_name(certificates.server_name)],
        },
    }


def _trust_by_file(token: Token) -> JSON:
    return {
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": [_name(token.server_name)]},
            "validation_context_sds_secret_config": {"name": "ca", "sds_config": _file(token.folder, CA_FILE)},
        }
    }


def _token_injector(token: Token) -> JSON:
    """Puts the token into every stream to the control plane.

    Not `google_grpc` with file-based metadata, which reads the token anew as well: it reads the authorities once and
    never again, so that a new authority would ask for new proxies, and its pauses between attempts to connect grow to
    30 s whatever is configured (both tried with Envoy 1.40).
    """
    secret = {"name": "token", "sds_config": _file(token.folder, TOKEN_FILE)}
    return {
        "name": "envoy.filters.http.credential_injector",
        "typed_config": {
            "@type": _TYPE + "envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
            "overwrite": True,
            "credential": {
                "name": "envoy.http.injected_credentials.generic",
                "typed_config": {
                    "@type": _TYPE + "envoy.extensions.http.injected_credentials.generic.v3.Generic",
                    "credential": secret,
                    "header": "authorization",
                    "header_value_prefix": "Bearer ",
                },
            },
        },
    }


def _file(folder: str, name: str) -> JSON:
    """Read again with its folder: what was refused at first (no authority was there yet) gets another chance."""
    source = {"path": f"{folder}/{name}", "watched_directory": {"path": folder}}
    return {"resource_api_version": "V3", "path_config_source": source}


def token_files(*, token: str, ca: str) -> dict[str, JSON]:
    """The files that a `Token.folder` holds, name → document: where the token is and where the authorities (PEM).

    Both are read again when something is moved into their folders, as the kubelet does with projected volumes.
    """
    secret = _TYPE + "envoy.extensions.transport_sockets.tls.v3.Secret"
    return {
        TOKEN_FILE: {"resources": [{"@type": secret, "name": "token", "generic_secret": {"secret": _watched(token)}}]},
        CA_FILE: {
            "resources": [
                {
                    "@type": secret,
                    "name": "ca",
                    "validation_context": {
                        "trusted_ca": {"filename": ca},
                        "watched_directory": {"path": posixpath.dirname(ca)},
                    },
                }
            ]
        },
    }


def _watched(path: str) -> JSON:
    return {"filename": path, "watched_directory": {"path": posixpath.dirname(path)}}


def _tls(server_name: str, common: JSON) -> JSON:
    context: JSON = {"@type": _UPSTREAM_TLS, "common_tls_context": {**common, "alpn_protocols": ["h2"]}}
    # RFC 6066 §3: server_name holds a host name, never an address.
    if not Address(server_name, 0).is_ip and not _is_id(server_name):
        context["sni"] = server_name
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _name(server_name: str) -> JSON:
    """Compares with an address, a DNS name, or a SPIFFE ID."""
    kind = "IP_ADDRESS" if Address(server_name, 0).is_ip else "URI" if _is_id(server_name) else "DNS"
    return {"san_type": kind, "matcher": {"exact": server_name}}


def _is_id(server_name: str) -> bool:
    return server_name.startswith("spiffe://")


def _socket_address(address: Address) -> JSON:
    return {"socket_address": {"address": address.host, "port_value": address.port}}


def grpc_bootstrap(proxy: ProxyIdentity, *, xds: Address, certificates: Certificates | None = None) -> JSON:
    """The bootstrap of a proxyless gRPC client (gRFC A27, A65): what `GRPC_XDS_BOOTSTRAP` points to."""
    creds: JSON = {"type": "insecure"}
    if certificates is not None:
        creds = {
            "type": "tls",
            "config": {
                "ca_certificate_file": certificates.ca,
                "certificate_file": certificates.cert,
                "private_key_file": certificates.key,
            },
        }
    return {
        "xds_servers": [{"server_uri": str(xds), "channel_creds": [creds], "server_features": ["xds_v3"]}],
        "node": proxy.node(),
    }
