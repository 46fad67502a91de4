"""The discovery services of single types (CDS, EDS, LDS, RDS, SRDS, SDS): the same streams, one type each.

Without the aggregated service nothing can be ordered between types, which is why Envoy is given ADS; these are for
clients that ask for one thing, such as an agent that fetches secrets. What resources refer to (endpoints, routes,
secrets) they still say comes over ADS, so an Envoy that takes its clusters or listeners here needs `ads_config` too;
without it Envoy refuses them: "ADS must be configured to support an ADS config source".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from xds.schema.type_urls import (
    TYPE_CLUSTER,
    TYPE_ENDPOINT,
    TYPE_LISTENER,
    TYPE_ROUTE,
    TYPE_SCOPED_ROUTE,
    TYPE_SECRET,
)
from xds.server.ads import Streams
from xds.server.rpc import stream_method

# Service → (type, state-of-the-world method, delta method), as in envoy/service/*/v3/*.proto.
SERVICES: Final = {
    "envoy.service.cluster.v3.ClusterDiscoveryService": (TYPE_CLUSTER, "StreamClusters", "DeltaClusters"),
    "envoy.service.endpoint.v3.EndpointDiscoveryService": (TYPE_ENDPOINT, "StreamEndpoints", "DeltaEndpoints"),
    "envoy.service.listener.v3.ListenerDiscoveryService": (TYPE_LISTENER, "StreamListeners", "DeltaListeners"),
    "envoy.service.route.v3.RouteDiscoveryService": (TYPE_ROUTE, "StreamRoutes", "DeltaRoutes"),
    "envoy.service.route.v3.ScopedRoutesDiscoveryService": (
        TYPE_SCOPED_ROUTE,
        "StreamScopedRoutes",
        "DeltaScopedRoutes",
    ),
    "envoy.service.secret.v3.SecretDiscoveryService": (TYPE_SECRET, "StreamSecrets", "DeltaSecrets"),
}


def services(streams: Streams) -> Mapping[str, Mapping[str, Any]]:
    """Service name → its methods."""
    return {
        name: {
            sotw: stream_method(streams.handler("sotw", type_url)),
            delta: stream_method(streams.handler("delta", type_url)),
        }
        for name, (type_url, sotw, delta) in SERVICES.items()
    }
