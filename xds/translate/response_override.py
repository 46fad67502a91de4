"""Answers replaced by their status: the `custom_response` filter of a route."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mesh.kinds.routepolicy import ResponseOverride
from xds.schema import message, pack
from xds.translate.header_modifier import OVERWRITE, literal
from xds.translate.http_filters import CUSTOM_RESPONSE

_CustomResponse = message("envoy.extensions.filters.http.custom_response.v3.CustomResponse")
_Policy = message("envoy.extensions.http.custom_response.local_response_policy.v3.LocalResponsePolicy")
_Status = message("envoy.type.matcher.v3.HttpResponseStatusCodeMatchInput")
_StatusClass = message("envoy.type.matcher.v3.HttpResponseStatusCodeClassMatchInput")
_FOUND = 302
_POLICY = "envoy.extensions.http.custom_response.local_response_policy"


def set_response_overrides(route: Any, overrides: Sequence[ResponseOverride]) -> None:
    """Give a `Route` its overrides; the first that fits counts, a status before its class."""
    config = _CustomResponse()
    matchers = config.custom_response_matcher.matcher_list.matchers
    for by_class in (False, True):
        for override in overrides:
            statuses = [status for status in override.statuses if status.endswith("xx") == by_class]
            if statuses:
                _add(matchers.add(), override, statuses, by_class=by_class)
    route.typed_per_filter_config[CUSTOM_RESPONSE].CopyFrom(pack(config))


def _add(matcher: Any, override: ResponseOverride, statuses: Sequence[str], *, by_class: bool) -> None:
    several = matcher.predicate.or_matcher.predicate if len(statuses) > 1 else None
    for status in statuses:
        single = (several.add() if several is not None else matcher.predicate).single_predicate
        single.input.name = "status"
        single.input.typed_config.CopyFrom(pack(_StatusClass() if by_class else _Status()))
        single.value_match.exact = status
    policy = _Policy()
    # A literal: with `body` alone Envoy sends a body that looks like text, with a format it fills in commands.
    policy.body_format.text_format_source.inline_string = literal(override.body)
    policy.body_format.content_type = override.content_type
    if override.status is not None:
        policy.status_code.value = override.status
    elif override.redirect_to is not None:
        policy.status_code.value = _FOUND
    for name, value in (("content-type", override.content_type), ("location", override.redirect_to)):
        if value is not None:
            option = policy.response_headers_to_add.add()
            option.header.key = name
            option.header.value = literal(value)
            option.append_action = OVERWRITE
    matcher.on_match.action.name = _POLICY
    matcher.on_match.action.typed_config.CopyFrom(pack(policy))
