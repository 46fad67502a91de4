"""What RoutePolicies say of a rule, on its Envoy routes. What the rule says itself was filled in before, and stands.

The filters that this needs are in every gateway's and sidecar's chain already and do nothing (`FILTERS`), so that a
policy never touches a listener. A proxyless gRPC client has no filters and gets none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from msgspec.structs import replace

from mesh.credentials import why_without
from mesh.kinds.extensions import Extension
from mesh.kinds.httproute import HTTPRouteRule
from mesh.kinds.routepolicy import (
    DirectResponse,
    PolicyHeaders,
    RegexRedirect,
    RequestBuffer,
    RoutePolicy,
    RouteSettings,
)
from mesh.model import ObjectKey
from mesh.objects import find
from mesh.policies import Effective
from mesh.quarantine import quarantined
from mesh.tables import Reader
from mesh.unjudged import WHY, claims, without_claims
from xds.schema import message, pack
from xds.translate import extensions, grpc_json
from xds.translate.admission_control import admission_control_filters
from xds.translate.bandwidth_limit import bandwidth_limit_filters
from xds.translate.composite import Filters, filled, for_content_type, place, skipped
from xds.translate.compression import compression_filters
from xds.translate.csrf import csrf_filters
from xds.translate.extensions import UNABLE, ExtensionError, set_extensions
from xds.translate.fault import fault_filters
from xds.translate.grpc_json import set_grpc_json
from xds.translate.header_modifier import APPEND, OVERWRITE
from xds.translate.http_filters import (
    BACKEND_REWRITE,
    CUSTOM_RESPONSE,
    ENTRY,
    EXIT,
    GRPC_WEB,
    STATEFUL_SESSION,
    TROUBLE,
    http_filter,
)
from xds.translate.internal_redirect import set_internal_redirects
from xds.translate.names import backend_of
from xds.translate.redirect import STATUS, Entrance
from xds.translate.response_override import set_response_overrides
from xds.translate.rewrite import rewrite_host
from xds.translate.session_affinity import set_session_affinity

_Buffer = message("envoy.extensions.filters.http.buffer.v3.Buffer")
_GrpcWeb = message("envoy.extensions.filters.http.grpc_web.v3.GrpcWeb")


def _empty(name: str) -> Any:
    return pack(message(name)())


FILTERS = (
    place(ENTRY),
    place(EXIT),
    http_filter(CUSTOM_RESPONSE, _empty("envoy.extensions.filters.http.custom_response.v3.CustomResponse")),
    place(TROUBLE),
    # It touches nothing but requests that say they are gRPC-Web, so that no route needs to ask for it.
    for_content_type(GRPC_WEB, "application/grpc-web", pack(_GrpcWeb())),
    *extensions.FILTERS,
    grpc_json.FILTER,
    http_filter(STATEFUL_SESSION, _empty("envoy.extensions.filters.http.stateful_session.v3.StatefulSession")),
)


def _buffer_filters(wanted: RequestBuffer) -> Filters:
    """The filter that takes a whole body before anybody sees it."""
    buffer = _Buffer()
    buffer.max_request_bytes.value = wanted.max_bytes
    return (("buffer", pack(buffer)),)


# What holds a request back is the last in its place (`composite`).
_IN_PLACES: tuple[tuple[str, tuple[tuple[str, Callable[[Any], Filters]], ...]], ...] = (
    (ENTRY, (("csrf", csrf_filters), ("request_buffer", _buffer_filters))),
    (EXIT, (("bandwidth_limit", bandwidth_limit_filters), ("compression", compression_filters))),
    (TROUBLE, (("admission_control", admission_control_filters), ("fault_injection", fault_filters))),
)


def apply_policy(route: Any, settings: RouteSettings, *, unjudged: bool = False) -> None:
    """Add to a `Route` what policies say of its rule; `unjudged`: where clients may show any certificate."""
    if settings.direct_response is not None:
        _answer(route, settings.direct_response)
    elif settings.redirect is not None:
        _redirect(route, settings.redirect)
    if route.HasField("route"):
        _on_the_way(route, settings)
    if settings.response_overrides:
        set_response_overrides(route, settings.response_overrides)
    for at, parts in _IN_PLACES:
        wanted = ((getattr(settings, name), filters_of) for name, filters_of in parts)
        filters = [each for setting, filters_of in wanted if setting for each in filters_of(setting)]
        if filters:
            route.typed_per_filter_config[at].CopyFrom(filled(*filters))
    if settings.headers is not None:
        request, response = settings.headers.request, settings.headers.response
        if request is not None:
            request = without_claims(request) if unjudged else request
            _modify(route.request_headers_to_add, route.request_headers_to_remove, request)
        if response is not None:
            _modify(route.response_headers_to_add, route.response_headers_to_remove, response)


class Alternative(NamedTuple):
    """What policies say of a rule's requests, or of those whose path an expression matches."""

    policies: Effective | None
    only: str = ""


def alternatives(rule: HTTPRouteRule, policies: Effective | None) -> Iterator[Alternative]:
    """What policies say of a rule, the first first: by an expression some send only those elsewhere that it matches.

    Envoy would send the others to where they came from, or take their whole path for a host.
    """
    settings: RouteSettings | None = policies.settings if policies is not None else None
    if policies is not None and settings is not None:
        own = any(one.request_redirect is not None for one in rule.filters)
        if settings.redirect is not None and settings.direct_response is None and not own:
            yield Alternative(policies, settings.redirect.path)
            settings = replace(settings, redirect=None)
        rewrite = settings.rewrite
        if rewrite is not None and rewrite.host is not None and rewrite.host.from_path is not None and not own:
            yield Alternative(replace(policies, settings=settings), rewrite.host.from_path.pattern)
            settings = replace(settings, rewrite=replace(rewrite, host=None))
        policies = replace(policies, settings=settings)
    yield Alternative(policies)


class Made(NamedTuple):
    """What became of a part of policies on a route: who said it, what is wrong if anything is, and whom it asks."""

    said_by: ObjectKey
    problem: str = ""
    clusters: frozenset[str] = frozenset()


def apply_more(look: Reader, key: ObjectKey, route: Any, effective: Effective, entrance: Entrance) -> Iterator[Made]:
    """Add what needs more than the policy itself, to an Envoy route of a route object."""
    settings: RouteSettings = effective.settings
    if settings.headers is not None and (names := claims(settings.headers.request)):
        problem = f"{', '.join(names)} is taken off at port {entrance.port}: {WHY}" if entrance.unjudged else ""
        yield Made(effective.said_by("headers.request"), problem)
    if settings.credential_injection is not None and route.HasField("route"):
        yield _credential(look, key, route, effective.said_by("credentialInjection"), inside=entrance.inside)
    if settings.internal_redirects is not None and settings.credential_injection is not None:
        problem = "redirects are not followed where a credential is injected: the next backend would get it"
        yield Made(effective.said_by("internalRedirects"), problem)
    if settings.grpc_json is not None and route.HasField("route"):
        said_by = effective.said_by("grpcJSON")
        yield Made(said_by, _out(look, said_by) or set_grpc_json(look, route, settings.grpc_json, said_by))
    if settings.extensions:
        yield _extend(look, route, settings.extensions, effective.said_by("extensions"))


def _credential(look: Reader, key: ObjectKey, route: Any, said_by: ObjectKey, *, inside: bool) -> Made:
    """Whether a route's clusters add the credential; where they cannot, no backend is asked without it."""
    if inside:
        return Made(said_by, "gateways alone add credentials: inside the mesh a proxy is its workload's own")
    problem = why_without(look, key, said_by)
    backends = {name: backend_of(name) for name in _asked(route.route)}
    without = sorted(name for name, backend in backends.items() if backend is not None and not backend.credential)
    if not problem and without:
        problem = f"{without[0]} is whatever host a request names, and none of them may have a credential"
    if problem:
        route.direct_response.status = UNABLE
        return Made(said_by, f"{problem}; its requests are answered {UNABLE}")
    return Made(said_by)


def _asked(action: Any) -> Iterator[str]:
    """The clusters that a `RouteAction` names."""
    yield from (each.name for each in action.weighted_clusters.clusters)
    if action.cluster:
        yield action.cluster


def _extend(look: Reader, route: Any, wanted: tuple[Extension, ...], said_by: ObjectKey) -> Made:
    problem = _out(look, said_by)
    try:
        if not problem:
            return Made(said_by, "", frozenset(set_extensions(look, route, wanted, said_by)))
    except ExtensionError as error:
        problem = str(error)
    # Perhaps they were to refuse requests: none may pass without them.
    route.direct_response.status = UNABLE
    route.direct_response.ClearField("body")
    return Made(said_by, f"{problem}; its requests are answered {UNABLE}")


def _out(look: Reader, said_by: ObjectKey) -> str:
    """Why an Envoy would not take what a policy says; empty where none refused it."""
    policy = find(look, RoutePolicy, said_by)
    out = quarantined(look, said_by, policy) if policy is not None else None
    return f"{out.words} Fix: change the policy; it is then tried again" if out is not None else ""


def set_connect(route: Any, settings: RouteSettings) -> None:
    """Let a `Route` that matches requests by CONNECT take them, in the way that policies say."""
    if settings.connect not in ("Terminate", "Forward") or not route.HasField("route"):
        return
    if settings.request_buffer is not None:  # a tunnel is never whole
        return
    route.match.connect_matcher.SetInParent()  # they have no path that could match
    upgrade = route.route.upgrade_configs.add()
    upgrade.upgrade_type = "CONNECT"
    if settings.connect == "Terminate":
        upgrade.connect_config.SetInParent()


def _answer(route: Any, wanted: DirectResponse) -> None:
    if route.HasField("redirect"):
        return  # the route's own
    route.direct_response.status = wanted.status
    route.direct_response.body.inline_string = wanted.body
    option = route.response_headers_to_add.add()
    option.header.key = "content-type"
    option.header.value = wanted.content_type.replace("%", "%%")
    option.append_action = OVERWRITE


def _redirect(route: Any, wanted: RegexRedirect) -> None:
    if route.HasField("redirect"):
        return
    route.redirect.response_code = STATUS[wanted.status_code]
    route.redirect.regex_rewrite.pattern.regex = wanted.pattern
    route.redirect.regex_rewrite.substitution = wanted.substitution


def _on_the_way(route: Any, settings: RouteSettings) -> None:
    """What makes sense only where a backend is asked."""
    action = route.route
    rewrite = settings.rewrite
    if (
        rewrite is not None
        and rewrite.path is not None
        and not (action.prefix_rewrite or action.HasField("regex_rewrite"))
        and not any(BACKEND_REWRITE in each.typed_per_filter_config for each in action.weighted_clusters.clusters)
    ):
        action.regex_rewrite.pattern.regex = rewrite.path.pattern
        action.regex_rewrite.substitution = rewrite.path.substitution
    if rewrite is not None and rewrite.host is not None and not action.WhichOneof("host_rewrite_specifier"):
        rewrite_host(action, rewrite.host)
    if settings.internal_redirects is not None and settings.credential_injection is None:
        set_internal_redirects(action, settings.internal_redirects)
    if settings.grpc_web is False:
        route.typed_per_filter_config[GRPC_WEB].CopyFrom(skipped())
    if settings.session_affinity is not None:
        set_session_affinity(route, settings.session_affinity)
    if settings.web_socket is False or settings.request_buffer is not None:  # it is never whole
        upgrade = action.upgrade_configs.add()
        upgrade.upgrade_type = "websocket"
        upgrade.enabled.value = False


def _modify(options: Any, removed: Any, wanted: PolicyHeaders) -> None:
    for headers, how in ((wanted.set, OVERWRITE), (wanted.add, APPEND)):
        for header in headers:
            option = options.add()
            option.header.key = header.name.lower()
            option.header.value = header.value
            option.append_action = how
            option.keep_empty_value = True
    removed.extend(name.lower() for name in wanted.remove)
