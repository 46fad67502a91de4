"""HTTP connection managers: how Envoy speaks HTTP to clients, at gateways, beside workloads and inside gRPC clients.

At the edge nothing from outside is believed (DESIGN §6): the client's address is the connection's, and the `x-envoy-*`
headers that steer Envoy, those that it only writes (`FORGEABLE`) and `x-forwarded-client-cert` are stripped. Paths are
normalised before they are matched, slashes merged, and an escaped slash is answered by a redirect to the plain path, so
that no rule can be dodged by spelling. Limits follow Envoy's own advice for edge proxies where they cannot hurt a legal
client: 10 s for the headers of a request, 100 streams per connection. WebSocket upgrades are allowed on every route.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mesh.client_policies import NOTHING
from mesh.gateways import GatewayKey
from mesh.kinds.clientpolicy import ClientSettings
from mesh.telemetry_policies import SILENT, ListenerTelemetry
from xds.schema import pack
from xds.schema.types import ApiVersion, Cors, EarlyHeaderMutation, HttpConnectionManager, Router
from xds.translate.backend_rewrite import FILTER as BACKEND_REWRITES
from xds.translate.client_policy import client_filters, set_early_headers, stripped
from xds.translate.client_policy import set_manager as set_client_settings
from xds.translate.ext_authz import FILTER as AUTHORIZATION
from xds.translate.http_filters import BROAD_SCOPE, CORS, ROUTER, SHARED_SCOPE, Filter, add_filters, http_filter
from xds.translate.internal_redirect import add_filter
from xds.translate.jwt_authn import FILTERS as TOKEN_FILTERS
from xds.translate.names import stat_name
from xds.translate.route_policy import FILTERS
from xds.translate.scoped_routes import (
    EARLY_MUTATION,
    broad_scope_filter,
    set_scoped_routes,
    shared_chain,
    shared_scope_filter,
)
from xds.translate.telemetry import set_telemetry

FILTER = "envoy.filters.network.http_connection_manager"
SERVER_NAME = "fairlead"

# What Envoy writes for backends and logs and does not take off by itself when a client sends it.
FORGEABLE = ("x-envoy-original-host", "x-envoy-original-path")

_REQUEST_HEADERS_SECONDS = 10
_STREAMS_PER_CONNECTION = 100


def _scoped_router() -> Any:
    router = Router()
    add_filter(router)
    return router


_ROUTER_FILTER = http_filter(ROUTER, pack(Router()))
_SCOPED_ROUTER_FILTER = http_filter(ROUTER, pack(_scoped_router()))
_CORS_FILTER = http_filter(CORS, pack(Cors()))


def gateway_manager(
    chain: str,
    *,
    scoped: bool,
    gateway: GatewayKey,
    settings: ClientSettings = NOTHING,
    told: Filter | None = None,
    telemetry: ListenerTelemetry = SILENT,
) -> Any:
    """The manager of a gateway's filter chain, which gets its routes by scope (`scoped_routes`) or all in one (RDS).

    `settings` is what ClientPolicies say, `told` the filter that tells clients of HTTP/3, `telemetry` what is told of
    its requests.
    """
    manager = _manager(chain)
    _guard(manager)
    manager.use_remote_address.value = True
    _trust_nobody(manager)
    set_telemetry(manager, telemetry, gateway)
    _strip(manager, (*FORGEABLE, *_outside(settings, telemetry)))
    filters = [_CORS_FILTER, *TOKEN_FILTERS, AUTHORIZATION, *FILTERS, BACKEND_REWRITES]
    if told is not None:
        filters.append(told)
    filters.extend(client_filters(settings))
    set_early_headers(manager, settings)
    if scoped:
        set_scoped_routes(manager, chain)
        if shared_chain(chain):
            filters.append(http_filter(SHARED_SCOPE, shared_scope_filter(chain)))
        filters += (http_filter(BROAD_SCOPE, broad_scope_filter(chain)), _SCOPED_ROUTER_FILTER)
    else:
        filters.append(_ROUTER_FILTER)
        set_rds(manager, chain)
    add_filters(manager, filters)
    set_client_settings(manager, settings)
    return manager


def _outside(settings: ClientSettings, telemetry: ListenerTelemetry) -> list[str]:
    """The headers of strangers that are not taken, but for the request ID where a policy wants it kept."""
    request_id = telemetry.settings.request_id
    kept = {"x-request-id"} if request_id is not None and request_id.preserve else set[str]()
    return [name for name in stripped(settings) if name not in kept]


def egress_manager(name: str) -> Any:
    """The manager for what a workload sends out: requests come from the workload itself and go on as they are."""
    manager = _manager(name)
    set_rds(manager, name)
    add_filters(manager, (_CORS_FILTER, AUTHORIZATION, *FILTERS, BACKEND_REWRITES, _ROUTER_FILTER))
    return manager


def ingress_manager(name: str) -> Any:
    """The manager in front of a workload, without routes: the caller fills `route_config`."""
    manager = _manager(name)
    _guard(manager)
    add_filters(manager, (*TOKEN_FILTERS, _ROUTER_FILTER))
    return manager


def grpc_manager(name: str) -> Any:
    """The manager inside a proxyless gRPC client, which reads the routes' name and the filters (gRFC A27)."""
    manager = HttpConnectionManager()
    manager.stat_prefix = stat_name(name)
    set_rds(manager, name)
    add_filters(manager, (_ROUTER_FILTER,))
    return manager


def set_rds(manager: Any, name: str) -> None:
    """Have the manager ask for a route configuration of that name on the ADS stream."""
    manager.rds.route_config_name = name
    manager.rds.config_source.ads.SetInParent()
    manager.rds.config_source.resource_api_version = ApiVersion.V3


def _manager(name: str) -> Any:
    manager = HttpConnectionManager()
    manager.stat_prefix = stat_name(name)
    manager.server_name = SERVER_NAME
    manager.upgrade_configs.add().upgrade_type = "websocket"
    return manager


def _trust_nobody(manager: Any) -> None:
    """Nobody is internal: `x-envoy-*` is believed from no one.

    It takes a range, of which nobody is: with none Envoy 1.40 trusts loopback and all private networks.
    """
    nobody = manager.internal_address_config.cidr_ranges.add()
    nobody.address_prefix = "255.255.255.255"
    nobody.prefix_len.value = 32


def _strip(manager: Any, headers: Iterable[str]) -> None:
    mutation = EarlyHeaderMutation()
    for header in headers:
        mutation.mutations.add().remove = header
    extension = manager.early_header_mutation_extensions.add()
    extension.name = EARLY_MUTATION
    extension.typed_config.CopyFrom(pack(mutation))


def _guard(manager: Any) -> None:
    manager.normalize_path.value = True
    manager.merge_slashes = True
    manager.path_with_escaped_slashes_action = HttpConnectionManager.UNESCAPE_AND_REDIRECT
    manager.forward_client_cert_details = HttpConnectionManager.SANITIZE
    manager.request_headers_timeout.seconds = _REQUEST_HEADERS_SECONDS
    manager.http2_protocol_options.max_concurrent_streams.value = _STREAMS_PER_CONNECTION
