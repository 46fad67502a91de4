"""What a rule asks for, in an object that is accepted, and that nothing here can do.

Gateway API lets an implementation refuse a filter but never skip it (HTTPRouteFilter): requests that the filter was
meant for are answered 500. Translation, `explain` and statuses judge by the same functions, so that they agree.
"""

from __future__ import annotations

from collections.abc import Iterable

from mesh.kinds.http_filters import HTTPRouteFilter

_ONE_BACKEND = ("RequestHeaderModifier", "ResponseHeaderModifier", "URLRewrite")


def of_rule(filters: Iterable[HTTPRouteFilter], *, grpc: bool = False) -> str:
    """The filter of a rule for which all of its requests answer 500, in words; empty where there is none.

    `grpc`: for proxyless clients, which would pass over every filter in silence (gRFC A28).
    """
    for one in filters:
        if grpc:
            return f"filter {one.type}, which proxyless gRPC clients cannot apply"
        if one.extension_ref is not None:
            return f"filter {one.extension_ref.kind} {one.extension_ref.name}, of a kind that is not supported"
    return ""


def of_backend(filters: Iterable[HTTPRouteFilter], *, grpc: bool = False) -> str:
    """The filter of one backend for which its share of the requests answers 500; empty where there is none.

    Envoy's `ClusterWeight` has fields for headers and the host, and a place for filters. `grpc` as in `of_rule`.
    """
    for one in filters:
        if grpc:
            return f"filter {one.type}, which proxyless gRPC clients cannot apply"
        if one.type not in _ONE_BACKEND:
            return f"filter {one.type}, which cannot be applied to one backend"
    return ""
