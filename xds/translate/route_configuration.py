"""Route configurations: virtual hosts joined into what RDS carries, or what a scope holds.

The port of the Host header does not choose a virtual host (Gateway API, HTTPRouteSpec.hostnames). Clusters are not
checked: a route may name one that is being warmed, or `missing-backend`, which never exists.
"""

from __future__ import annotations

from collections.abc import Iterable

from xds.schema import encode
from xds.schema.types import RouteConfiguration

SCOPE_HEADER = "x-fairlead-scope"


def route_configuration(name: str, hosts: Iterable[bytes], *, ignore_port: bool = True) -> bytes:
    """The encoded RouteConfiguration of framed virtual hosts.

    The header that chooses scopes (`scoped_routes`) is always removed, so that no backend ever sees it.
    """
    head = RouteConfiguration()
    head.name = name
    tail = RouteConfiguration()
    tail.request_headers_to_remove.append(SCOPE_HEADER)
    tail.ignore_port_in_host_matching = ignore_port
    tail.validate_clusters.value = False
    return b"".join((encode(head), *hosts, encode(tail)))
