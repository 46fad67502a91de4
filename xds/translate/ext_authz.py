"""External authorization: the `ext_authz` filter of a route, with all that it says in the route itself.

Envoy's own per-route settings of the filter would choose the authorizer, but not the headers that it is sent, so that
the whole filter stands in the route (`composite`). Where the authorizer gives no answer, or none that can be read, the
answer is 503: the request does not go on, and people can tell an outage from a refusal.

Clients must not be able to say what only the authorizer may: a header that is to come from its answer is taken off the
request before, unless the authorizer is sent it and so can judge it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mesh.external_auth import ALWAYS_SENT, ITS_OWN
from mesh.kinds.http_filters import GRPCAuthConfig, HTTPAuthConfig, HTTPExternalAuthFilter
from xds.schema import message, pack
from xds.schema.types import ApiVersion
from xds.translate.composite import filled, place
from xds.translate.http_filters import EXT_AUTHZ
from xds.translate.names import host_of
from xds.translate.retry import UNSENT
from xds.translate.timeouts import set_duration

FILTER = place(EXT_AUTHZ)

_ExtAuthz = message("envoy.extensions.filters.http.ext_authz.v3.ExtAuthz")
_HeaderMutation = message("envoy.extensions.filters.http.header_mutation.v3.HeaderMutation")
_MILLISECONDS = 5_000
_OUTAGE = 503
_RETRIES = 2
# Envoy says by it whether the authorizer has all of the body; a client's own would be believed.
_PARTIAL_BODY = "x-envoy-auth-partial-body"


def set_external_auth(route: Any, asked: HTTPExternalAuthFilter, cluster: str, *, within: int | None = None) -> None:
    """Have a cluster asked before a request to a `Route` goes on.

    `within`: the milliseconds that an answer to the whole request may take, None or 0 for any number.
    """
    config = _ExtAuthz()
    config.transport_api_version = ApiVersion.V3
    config.status_on_error.code = _OUTAGE
    config.validate_mutations = True
    config.decoder_header_mutation_rules.disallow_expression.regex = ITS_OWN
    if asked.forward_body is not None and asked.forward_body.max_size:
        config.with_request_body.max_request_bytes = asked.forward_body.max_size
        config.with_request_body.pack_as_bytes = True
    timeout = min(within, _MILLISECONDS) if within else _MILLISECONDS
    if asked.protocol == "GRPC":
        forged = _ask_grpc(config, asked.grpc or GRPCAuthConfig(), cluster, timeout)
    else:
        forged = _ask_http(config, asked.http or HTTPAuthConfig(), cluster, timeout)
    filters = [("ext_authz", pack(config))]
    if forged:
        filters.insert(0, ("forged", pack(_without(forged))))
    route.typed_per_filter_config[EXT_AUTHZ].CopyFrom(filled(*filters))


def _ask_grpc(config: Any, asked: GRPCAuthConfig, cluster: str, timeout: int) -> list[str]:
    service = config.grpc_service
    service.envoy_grpc.cluster_name = cluster
    service.envoy_grpc.authority = host_of(cluster)
    set_duration(service.timeout, timeout)
    _retry(service.retry_policy)
    if asked.allowed_headers:
        _names(config.allowed_headers, asked.allowed_headers)
    _names(config.disallowed_headers, (_PARTIAL_BODY,))
    return []


def _ask_http(config: Any, asked: HTTPAuthConfig, cluster: str, timeout: int) -> list[str]:
    service = config.http_service
    service.server_uri.uri = f"http://{host_of(cluster)}"
    service.server_uri.cluster = cluster
    set_duration(service.server_uri.timeout, timeout)
    service.path_prefix = asked.path.rstrip("/")
    _retry(service.retry_policy)
    if asked.allowed_headers:
        _names(config.allowed_headers, asked.allowed_headers)
    taken = service.authorization_response.allowed_upstream_headers
    if not asked.allowed_response_headers:
        taken.patterns.add().safe_regex.regex = ".*"
        return []
    _names(taken, asked.allowed_response_headers)
    sent = {*ALWAYS_SENT, *(name.lower() for name in asked.allowed_headers)}
    return sorted({name.lower() for name in asked.allowed_response_headers} - sent)


def _names(matcher: Any, names: Iterable[str]) -> None:
    for name in sorted({name.lower() for name in names}):
        matcher.patterns.add().exact = name


def _retry(policy: Any) -> None:
    policy.retry_on = UNSENT
    policy.num_retries.value = _RETRIES


def _without(headers: Iterable[str]) -> Any:
    config = _HeaderMutation()
    for header in headers:
        config.mutations.request_mutations.add().remove = header
    return config
