"""Backends and their weights: one cluster, `weighted_clusters`, or no backend at all.

A backend that cannot be resolved keeps its share of the requests and answers 500 to them: its weight goes to a cluster
that never exists, and `cluster_not_found_response_code` says what that means. A service without endpoints is a real,
empty cluster and answers 503, so both can stand in one rule (Gateway API, HTTPBackendRef).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from mesh.kinds.http_filters import HTTPPathModifier, HTTPRouteFilter
from mesh.kinds.httproute import HTTPPathMatch
from mesh.kinds.trafficpolicy import EndpointSelection
from mesh.request_routes import UNABLE, UNAVAILABLE
from xds.schema.types import RouteAction
from xds.translate.backend_rewrite import rewrite_path
from xds.translate.composite import filled
from xds.translate.endpoint_selection import select_endpoints
from xds.translate.header_modifier import modify_request_headers, modify_response_headers
from xds.translate.http_filters import BACKEND_REWRITE
from xds.translate.names import MISSING_CLUSTER

_NOT_FOUND = {UNABLE: RouteAction.INTERNAL_SERVER_ERROR, UNAVAILABLE: RouteAction.SERVICE_UNAVAILABLE}
"""How Envoy answers for a cluster that does not exist, by the status that is wanted."""


class Share(msgspec.Struct, frozen=True):
    """A backend of a rule: its cluster (None where it cannot be resolved), weight and own filters.

    `selection` is how requests choose among its endpoints, where they do.
    """

    cluster: str | None
    weight: int
    filters: tuple[HTTPRouteFilter, ...] = ()
    selection: EndpointSelection | None = None

    @property
    def path(self) -> HTTPPathModifier | None:
        """The path that the backend gets instead of the request's."""
        rewrites = (filter_.url_rewrite for filter_ in self.filters if filter_.url_rewrite is not None)
        return next((rewrite.path for rewrite in rewrites), None)


def has_backend(shares: Sequence[Share]) -> bool:
    """Whether any request can reach a backend; where none can, the rule answers 500 by itself."""
    return any(share.weight and share.cluster is not None for share in shares)


def rewrites_paths(shares: Sequence[Share]) -> bool:
    """Whether some backend gets another path than the others: then each cluster has its own, and the route none."""
    return any(share.path is not None for share in shares if share.weight)


def set_clusters(
    action: Any,
    shares: Sequence[Share],
    match: HTTPPathMatch,
    *,
    unable: int = UNABLE,
    path: HTTPPathModifier | None = None,
) -> None:
    """Fill the cluster of a `RouteAction`; shares of weight 0 are left out. `unable`: see `_NOT_FOUND`.

    `path` is what the rule says of it, for those shares that say nothing themselves where others do.
    """
    weighted = [share for share in shares if share.weight]
    if any(share.cluster is None for share in weighted):
        action.cluster_not_found_response_code = _NOT_FOUND[unable]
    if len(weighted) == 1 and not weighted[0].filters and weighted[0].selection is None:
        action.cluster = weighted[0].cluster or MISSING_CLUSTER
        return
    for share in weighted:
        cluster = action.weighted_clusters.clusters.add()
        cluster.name = share.cluster or MISSING_CLUSTER
        cluster.weight.value = share.weight
        for filter_ in share.filters:
            _apply(cluster, filter_)
        new = (share.path or path) if rewrites_paths(shares) else None
        own = [] if share.selection is None else [select_endpoints(share.selection)]
        own += [] if new is None else [rewrite_path(new, match)]
        if own:
            cluster.typed_per_filter_config[BACKEND_REWRITE].CopyFrom(filled(*own))


def _apply(cluster: Any, filter_: HTTPRouteFilter) -> None:
    """A filter of one backend, of those that `mesh.unsupported` lets through."""
    if filter_.request_header_modifier is not None:
        modify_request_headers(cluster, filter_.request_header_modifier)
    if filter_.response_header_modifier is not None:
        modify_response_headers(cluster, filter_.response_header_modifier)
    if filter_.url_rewrite is not None and filter_.url_rewrite.hostname is not None:
        cluster.host_rewrite_literal = filter_.url_rewrite.hostname
