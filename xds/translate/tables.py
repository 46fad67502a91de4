"""All tables, the model's and Envoy's, in the order of their derivation, and where distribution finds resources."""

from __future__ import annotations

from typing import Any

from mesh import all_tables
from mesh.tables import Table
from xds.translate.cluster_tables import (
    ADDRESSINGS,
    ASSIGNMENTS,
    CLIENT_CERTIFICATES,
    CLUSTERS,
    GATEWAY_CLUSTERS,
    NEARNESS,
    USES,
    WORKLOAD_CLUSTERS,
    ZONAL_ASSIGNMENTS,
)
from xds.translate.gateway_tables import ENTRANCES, HOSTS, SHARED_HOSTS, SOTW_GATEWAYS
from xds.translate.jwt_authn_tables import DEMANDS, FILTER_CONFIGS
from xds.translate.listener_tables import GATEWAY_LISTENERS, GRPC_LISTENERS, SIDECAR_LISTENERS
from xds.translate.mesh_tls_tables import MESH_TLS_CLUSTERS
from xds.translate.result_tables import FOUND
from xds.translate.root_certificates import ROOT_CERTIFICATES
from xds.translate.route_configuration_tables import (
    EGRESS_ROUTES,
    GATEWAY_ROUTES,
    GRPC_ROUTES,
    ROUTE_PARTS,
    SCOPED_ROUTES,
)
from xds.translate.route_tables import CLIENTS, ROUTES, SEEN, SEEN_PORTS, SERVICE_HOSTS, VIRTUAL_HOSTS
from xds.translate.secret_tables import SECRETS
from xds.translate.stream_tables import STREAMS
from xds.translate.upstream_tables import UPSTREAMS
from xds.translate.views import MESH_TLS_VIEWS, RESOURCE_TABLES, SHARED_VIEWS, VIEWS, ZONAL_VIEWS

__all__ = ["RESOURCE_TABLES", "TABLES", "VIEWS"]

TABLES: tuple[Table[Any, Any], ...] = (
    *all_tables.TABLES,
    ENTRANCES,
    HOSTS,
    SHARED_HOSTS,
    SOTW_GATEWAYS,
    STREAMS,
    UPSTREAMS,
    CLIENTS,
    SEEN,
    SEEN_PORTS,
    ROUTES,
    VIRTUAL_HOSTS,
    SERVICE_HOSTS,
    ADDRESSINGS,
    CLUSTERS,
    MESH_TLS_CLUSTERS,
    ASSIGNMENTS,
    NEARNESS,
    ZONAL_ASSIGNMENTS,
    WORKLOAD_CLUSTERS,
    USES,
    CLIENT_CERTIFICATES,
    GATEWAY_CLUSTERS,
    SECRETS,
    ROOT_CERTIFICATES,
    DEMANDS,
    FILTER_CONFIGS,
    ROUTE_PARTS,
    SCOPED_ROUTES,
    EGRESS_ROUTES,
    GATEWAY_ROUTES,
    GRPC_ROUTES,
    GATEWAY_LISTENERS,
    SIDECAR_LISTENERS,
    GRPC_LISTENERS,
    FOUND,
    SHARED_VIEWS,
    ZONAL_VIEWS,
    MESH_TLS_VIEWS,
    VIEWS,
)
