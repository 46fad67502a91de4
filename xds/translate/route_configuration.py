"""Route configurations: virtual hosts joined into what RDS carries, or what a scope holds.

The port of the Host header does not choose a virtual host (Gateway API, HTTPRouteSpec.hostnames). Clusters are not
checked: a route may name one that is being warmed, or `missing-backend`, which never exists.
"""

from __future__ import annotations

from collections.abc import Iterable

from xds.schema import encode
from xds.schema.types import RouteConfiguration
from xds.translate.http_filters import put_to_sleep

SCOPE_HEADER = "x-fairlead-scope"


def route_configuration(name: str, hosts: Iterable[bytes], *, ignore_port: bool = True, asleep: bool = False) -> bytes:
    """The encoded RouteConfiguration of framed virtual hosts; `asleep`: filters that none of them wants may sleep.

    The header that chooses scopes (`scoped_routes`) is always removed, so that no backend ever sees it.
    """
    head = RouteConfiguration()
    head.name = name
    tail = RouteConfiguration()
    tail.request_headers_to_remove.append(SCOPE_HEADER)
    tail.ignore_port_in_host_matching = ignore_port
    tail.validate_clusters.value = False
    if asleep:
        put_to_sleep(tail)
    return b"".join((encode(head), *hosts, encode(tail)))
