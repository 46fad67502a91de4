"""Where a RequestRedirect leads: the Location that a client gets (Gateway API, HTTPRequestRedirectFilter)."""

from __future__ import annotations

from mesh.kinds.http_filters import HTTPPathModifier, HTTPRequestRedirectFilter
from mesh.kinds.httproute import HTTPPathMatch
from mesh.requests import WELL_KNOWN_PORTS, Request


def location(redirect: HTTPRequestRedirectFilter, match: HTTPPathMatch, *, port: int, asked: Request) -> str:
    """The URL that a request is sent to; `port` is the listener's. The query goes along unchanged.

    The port is the given one, else the well-known one of a given scheme, else the listener's. One that is the new
    scheme's own is left out, but for a kept host on an unusual port: only by naming it can Envoy put off the old one.
    """
    scheme = redirect.scheme or asked.scheme
    usual = WELL_KNOWN_PORTS[scheme]
    new_port = redirect.port or (usual if redirect.scheme is not None else port)
    host = redirect.hostname or asked.host
    silent = new_port == usual and (redirect.hostname is not None or port == WELL_KNOWN_PORTS[asked.scheme])
    path = replaced(redirect.path, match, asked.path) if redirect.path is not None else asked.path
    query = f"?{asked.raw_query}" if asked.raw_query else ""
    return f"{scheme}://{host}{'' if silent else f':{new_port}'}{path}{query}"


def replaced(modifier: HTTPPathModifier, match: HTTPPathMatch, path: str) -> str:
    """The path after a modifier; a replaced prefix never leaves two slashes or none (HTTPPathModifier's table)."""
    if modifier.type == "ReplaceFullPath":
        return modifier.replace_full_path or "/"
    rest = path[len(match.value.rstrip("/")) :].lstrip("/")
    prefix = (modifier.replace_prefix_match or "").rstrip("/")
    return f"{prefix}/{rest}" if rest or path.endswith("/") else prefix or "/"
