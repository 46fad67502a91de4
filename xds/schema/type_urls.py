"""The type URLs of xDS resources and their short codes. No protobuf here: importing this costs nothing.

`TYPE_CLUSTER` and its kin are what `DiscoveryRequest.type_url` says; `CDS` and its kin are what people say.
Source: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-docs/xds_protocol ("Resource Types").
"""

from __future__ import annotations

from typing import Final

PREFIX: Final = "type.googleapis.com/"

TYPE_CLUSTER: Final = PREFIX + "envoy.config.cluster.v3.Cluster"
TYPE_ENDPOINT: Final = PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
TYPE_LISTENER: Final = PREFIX + "envoy.config.listener.v3.Listener"
TYPE_ROUTE: Final = PREFIX + "envoy.config.route.v3.RouteConfiguration"
TYPE_SCOPED_ROUTE: Final = PREFIX + "envoy.config.route.v3.ScopedRouteConfiguration"
TYPE_VIRTUAL_HOST: Final = PREFIX + "envoy.config.route.v3.VirtualHost"
TYPE_SECRET: Final = PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"
TYPE_EXTENSION_CONFIG: Final = PREFIX + "envoy.config.core.v3.TypedExtensionConfig"
TYPE_RUNTIME: Final = PREFIX + "envoy.service.runtime.v3.Runtime"

CDS: Final = "CDS"
EDS: Final = "EDS"
LDS: Final = "LDS"
RDS: Final = "RDS"
SRDS: Final = "SRDS"
VHDS: Final = "VHDS"
SDS: Final = "SDS"
ECDS: Final = "ECDS"
RTDS: Final = "RTDS"

# Short code of every resource type, in the order in which make-before-break sends them.
CODES: Final[dict[str, str]] = {
    TYPE_CLUSTER: CDS,
    TYPE_ENDPOINT: EDS,
    TYPE_LISTENER: LDS,
    TYPE_EXTENSION_CONFIG: ECDS,
    TYPE_ROUTE: RDS,
    TYPE_SCOPED_ROUTE: SRDS,
    TYPE_VIRTUAL_HOST: VHDS,
    TYPE_SECRET: SDS,
    TYPE_RUNTIME: RTDS,
}

TYPE_URLS: Final[dict[str, str]] = {code: url for url, code in CODES.items()}


def type_url(full_name: str) -> str:
    """The type URL of a message's full name: `envoy.config.cluster.v3.Cluster` → `type.googleapis.com/envoy...`."""
    return PREFIX + full_name


def short(type_url: str) -> str:
    """The short code of a type URL (`CDS`); of one without a code, the last part of its message name."""
    return CODES.get(type_url) or type_url.rpartition("/")[2].rpartition(".")[2]
