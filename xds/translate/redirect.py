"""Redirects: RequestRedirect as Envoy's `RedirectAction`.

The port of the Location is decided here and not by Envoy, which keeps the request's port under a new scheme
(envoyproxy/envoy #17318). Gateway API: the given port; else the well-known port of a given scheme; else the
listener's; and no port is written where it is the scheme's own. Envoy drops the request's port by itself when the host
is replaced; where it is not, a well-known port is left out only if requests arrive on a well-known port too, so that no
other can be left standing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mesh.kinds.http_filters import HTTPRequestRedirectFilter
from mesh.kinds.httproute import HTTPPathMatch
from mesh.requests import WELL_KNOWN_PORTS
from xds.schema.types import RedirectAction
from xds.translate.rewrite import replace_prefix

STATUS = {
    301: RedirectAction.MOVED_PERMANENTLY,
    302: RedirectAction.FOUND,
    303: RedirectAction.SEE_OTHER,
    307: RedirectAction.TEMPORARY_REDIRECT,
    308: RedirectAction.PERMANENT_REDIRECT,
}


class Entrance(NamedTuple):
    """Where requests come in: the listener's scheme (`http`, `https`) and port; port 0 in the mesh, which has none.

    `unjudged`: its clients may show any certificate (`mesh.unjudged`).
    """

    scheme: str
    port: int
    unjudged: bool = False

    @property
    def inside(self) -> bool:
        """Whether it is no listener of a gateway."""
        return not self.port


def set_redirect(action: Any, redirect: HTTPRequestRedirectFilter, match: HTTPPathMatch, entrance: Entrance) -> None:
    """Fill a `RedirectAction`; the query string stays as it is."""
    action.response_code = STATUS[redirect.status_code]
    if redirect.scheme is not None:
        action.scheme_redirect = redirect.scheme
    if redirect.hostname is not None:
        action.host_redirect = redirect.hostname
    port = _port(redirect, entrance)
    if port:
        action.port_redirect = port
    if redirect.path is not None:
        if redirect.path.type == "ReplaceFullPath":
            action.path_redirect = redirect.path.replace_full_path or "/"
        else:
            replace_prefix(action, redirect.path, match)


def _port(redirect: HTTPRequestRedirectFilter, entrance: Entrance) -> int:
    """The port to write, 0 for none."""
    scheme = redirect.scheme or entrance.scheme
    well_known = WELL_KNOWN_PORTS[scheme]
    port = redirect.port or (well_known if redirect.scheme is not None else entrance.port)
    request_port_is_implied = redirect.hostname is not None or entrance.port == WELL_KNOWN_PORTS[entrance.scheme]
    return 0 if port == well_known and request_port_is_implied else port
