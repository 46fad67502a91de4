"""Route actions: what a rule does with a request that matched, redirects and answers of Envoy's own included.

A redirect ends the request, so it comes before backends. A rule whose backends are all missing or weightless answers
500 (a gRPC call: UNAVAILABLE) without asking any cluster; a mirror gets its copies only where there is a request to
copy. A rule that asks for what cannot be done (`mesh.unsupported`) answers so to everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mesh.kinds.http_filters import HTTPRequestMirrorFilter
from mesh.kinds.httproute import HTTPRouteMatch, HTTPRouteRule
from mesh.request_routes import UNABLE
from mesh.tries import Limits
from xds.translate.cors import set_cors
from xds.translate.header_modifier import modify_request_headers, modify_response_headers
from xds.translate.mirror import add_mirror
from xds.translate.redirect import Entrance, set_redirect
from xds.translate.retry import set_default_retry, set_retry
from xds.translate.rewrite import rewrite_url
from xds.translate.timeouts import set_timeouts
from xds.translate.weighted_clusters import Share, has_backend, rewrites_paths, set_clusters


def set_action(
    route: Any,
    rule: HTTPRouteRule,
    match: HTTPRouteMatch,
    *,
    shares: Sequence[Share],
    mirrors: Mapping[HTTPRequestMirrorFilter, str],
    entrance: Entrance,
    limits: Limits,
    unable: int = UNABLE,
) -> None:
    """Fill the action of a `Route` for one match of a rule. `mirrors` has the clusters of those that resolve.

    `unable` is the status where no valid backend is to be had.
    """
    redirect = next((each.request_redirect for each in rule.filters if each.request_redirect is not None), None)
    if redirect is not None:
        set_redirect(route.redirect, redirect, match.path, entrance)
    elif has_backend(shares):
        _set_route(route.route, rule, match, shares, mirrors, unable)
        _set_times(route.route, rule, limits)
    else:
        refuse(route, unable)
    for filter_ in rule.filters:
        if filter_.request_header_modifier is not None:
            modify_request_headers(route, filter_.request_header_modifier)
        if filter_.response_header_modifier is not None:
            modify_response_headers(route, filter_.response_header_modifier)
        if filter_.cors is not None:
            set_cors(route, filter_.cors)


def _set_times(action: Any, rule: HTTPRouteRule, limits: Limits) -> None:
    """Fill timeouts and retries. Envoy reads the time of a try in a route's retries alone, whatever a cluster's say."""
    whole, one = limits.whole, limits.each
    only = rule.timeouts is not None and rule.timeouts.backend_request is not None and not limits.repeated
    if rule.retry is not None:
        set_retry(action.retry_policy, rule.retry, per_try_timeout=one)
    elif one and not only:
        set_default_retry(action.retry_policy, per_try_timeout=one)
    set_timeouts(action, whole, one if only else None)


def refuse(route: Any, status: int) -> None:
    """Let a `Route` answer that it is configured wrongly."""
    route.direct_response.status = status


def _set_route(
    action: Any,
    rule: HTTPRouteRule,
    match: HTTPRouteMatch,
    shares: Sequence[Share],
    mirrors: Mapping[HTTPRequestMirrorFilter, str],
    unable: int,
) -> None:
    rewrites = [each.url_rewrite for each in rule.filters if each.url_rewrite is not None]
    path = next((rewrite.path for rewrite in rewrites), None)
    set_clusters(action, shares, match.path, unable=unable, path=path)
    for filter_ in rule.filters:
        if filter_.url_rewrite is not None:
            rewrite_url(action, filter_.url_rewrite, match.path, host_only=rewrites_paths(shares))
        mirror = filter_.request_mirror
        if mirror is not None and mirror in mirrors:
            add_mirror(action, mirror, mirrors[mirror])
