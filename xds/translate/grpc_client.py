"""Proxyless gRPC clients: what `xds:///<service>.<namespace>:<port>` asks for (gRFC A27).

A Listener of that name with an `api_listener`, a RouteConfiguration of the same name, and then the same clusters and
endpoints that Envoys get. gRPC refuses what it does not know where Envoy would not, so that routes are built for it
apart (`route_match`); and it passes over filters in silence, so that a rule with filters fails its calls
(`mesh.unsupported`).
"""

from __future__ import annotations

from typing import Any

from xds.schema import pack
from xds.schema.types import Listener
from xds.translate.http_connection_manager import grpc_manager


def api_listener(name: str) -> Any:
    """The listener that a client asks for under the name of its target."""
    listener = Listener()
    listener.name = name
    listener.api_listener.api_listener.CopyFrom(pack(grpc_manager(name)))
    return listener
