"""Clients that stay with the version that they got while a Rollout moves weights: the weighted choice by a hash.

What Envoy draws for a request among weighted clusters is then no random number but the hash of what the client is
known by, so that the same client draws the same each time. It draws before it would make a cookie of its own. So one is
given: the request's id, by whose hash this request was drawn, becomes the value of the cookie, by whose hash the next
ones are. Both are hashed alike (xxHash64 of the text).
"""

from __future__ import annotations

from typing import Any

from mesh.kinds.duration import milliseconds
from mesh.kinds.rollout import StickyCookie
from mesh.rollouts import Sticking

_REQUEST_ID = "x-request-id"


def set_stickiness(route: Any, stays: Sticking | None, *, secure: bool) -> None:
    """Have the clients of a `Route` stay with a version, if they shall. `secure`: they come by TLS."""
    if stays is None or not route.HasField("route") or not route.route.HasField("weighted_clusters"):
        return
    route.route.weighted_clusters.use_hash_policy.value = True
    policy = route.route.hash_policy.add()
    if stays.by.header is not None:
        policy.header.header_name = stays.by.header.lower()
    elif stays.by.cookie is not None and stays.given:
        policy.header.header_name = _REQUEST_ID
        option = route.response_headers_to_add.add()
        option.header.key = "set-cookie"
        option.header.value = _set_cookie(stays.by.cookie, secure=secure)
        option.append_action = option.APPEND_IF_EXISTS_OR_ADD
    elif stays.by.cookie is not None:
        policy.cookie.name = stays.by.cookie.name


def _set_cookie(cookie: StickyCookie, *, secure: bool) -> str:
    seconds = milliseconds(cookie.ttl or "0s") // 1_000
    parts = [
        f"{_literal(cookie.name)}=%REQ({_REQUEST_ID.upper()})%",
        f"Path={_literal(cookie.path)}",
        *((f"Max-Age={seconds}",) if seconds else ()),
        "HttpOnly",
        "SameSite=Lax",
        *(("Secure",) if secure else ()),
    ]
    return "; ".join(parts)


def _literal(text: str) -> str:
    return text.replace("%", "%%")
