"""Which route has a server name, or a port, of a listener whose connections pass as they are.

The one that names it most exactly, and of those the oldest. Gateway API counts the others as attached all the same.
Translation and `explain` both ask here.
"""

from __future__ import annotations

from mesh.attachments import ATTACHMENTS, ROUTES_BY_LISTENER, ListenerKey
from mesh.gateways import Gateway
from mesh.hostnames import best
from mesh.listeners import GatewayListener
from mesh.model import ObjectKey
from mesh.precedence import age
from mesh.routes import find_stream_route
from mesh.tables import Reader


def winners(look: Reader, key: ListenerKey, gateway: Gateway, listener: GatewayListener) -> dict[str, ObjectKey]:
    """The route of each server name (empty: any) that belongs to a listener and to no narrower one on its port."""
    neighbours = tuple(one.hostname for one in gateway.listeners if one.programmed and one.place == listener.place)
    found: dict[str, tuple[int, ObjectKey]] = {}
    for route in sorted(look.keys(ROUTES_BY_LISTENER, key), key=lambda at: _age(look, at)):
        attachment = look(ATTACHMENTS, route)
        for at in attachment.listeners() if attachment is not None else ():
            if (at.gateway, at.listener) == key:
                for hostname in at.hostnames:
                    rank = at.rank(hostname)
                    had = found.get(hostname)
                    if best(neighbours, hostname) == listener.hostname and (had is None or rank < had[0]):
                        found[hostname] = rank, route
    return {hostname: route for hostname, (_, route) in found.items()}


def _age(look: Reader, key: ObjectKey) -> tuple[float, str, str]:
    route = find_stream_route(look, key)
    return age(route.metadata) if route is not None else (float("inf"), key.namespace, key.name)
