"""Session affinity: a client stays at the endpoint it was given, as the `stateful_session` filter of a route has it."""

from __future__ import annotations

from typing import Any

from mesh.kinds.duration import milliseconds
from mesh.kinds.routepolicy import SessionAffinity
from xds.schema import message, pack
from xds.translate.http_filters import STATEFUL_SESSION
from xds.translate.timeouts import set_duration

_PerRoute = message("envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute")
_Cookie = message("envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState")
_Header = message("envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState")


def set_session_affinity(route: Any, wanted: SessionAffinity) -> None:
    """Give a `Route` its sessions."""
    per_route = _PerRoute()
    session = per_route.stateful_session
    session.strict = wanted.strict
    if wanted.cookie is not None:
        cookie = _Cookie()
        cookie.cookie.name = wanted.cookie.name
        cookie.cookie.path = wanted.cookie.path
        set_duration(cookie.cookie.ttl, milliseconds(wanted.cookie.ttl) if wanted.cookie.ttl is not None else 0)
        session.session_state.name = "envoy.http.stateful_session.cookie"
        session.session_state.typed_config.CopyFrom(pack(cookie))
    else:
        header = _Header()
        header.name = (wanted.header or "").lower()
        session.session_state.name = "envoy.http.stateful_session.header"
        session.session_state.typed_config.CopyFrom(pack(header))
    route.typed_per_filter_config[STATEFUL_SESSION].CopyFrom(pack(per_route))
