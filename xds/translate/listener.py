"""Listeners of a gateway: one per address and port, with a filter chain for HTTP or one per HTTPS hostname.

Routes are not in here and never change a listener: only the Gateway itself does. Several HTTP listeners of one port
share one chain, since only the Host header tells them apart; HTTPS listeners are told apart by SNI, and a client that
names none of them is cut off unless a listener takes any host.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from mesh.certificates import SecretKey
from mesh.hostnames import ANY
from xds.schema import pack
from xds.schema.types import Listener, TlsInspector
from xds.translate.http_connection_manager import FILTER, gateway_manager
from xds.translate.names import listener_name, stat_name
from xds.translate.tls import set_downstream_tls

EVERY_ADDRESS = "::"


class Chain(msgspec.Struct, frozen=True):
    """A filter chain: its name, which its routes bear too, and for HTTPS its hostname and certificates."""

    name: str
    hostname: str = ANY
    certificates: tuple[SecretKey, ...] = ()


def gateway_listener(address: str, port: int, chains: Iterable[Chain], *, scoped: bool) -> Any:
    """The listener at an address; `EVERY_ADDRESS` takes IPv4 as well. `scoped`: it gets its routes by scope."""
    listener = Listener()
    listener.name = listener_name(address, port)
    listener.stat_prefix = stat_name(listener.name)
    set_address(listener, address, port)
    tls = False
    for chain in chains:
        made = listener.filter_chains.add()
        made.name = chain.name
        if chain.certificates:
            tls = True
            set_downstream_tls(made.transport_socket, chain.certificates)
            if chain.hostname != ANY:
                made.filter_chain_match.server_names.append(chain.hostname)
        add_manager(made, gateway_manager(chain.name, scoped=scoped))
    if tls:
        inspector = listener.listener_filters.add()
        inspector.name = "envoy.filters.listener.tls_inspector"
        inspector.typed_config.CopyFrom(pack(TlsInspector()))
    return listener


def set_address(listener: Any, address: str, port: int) -> None:
    """Where a listener binds."""
    socket = listener.address.socket_address
    socket.address = address
    socket.port_value = port
    socket.ipv4_compat = address == EVERY_ADDRESS


def add_manager(filter_chain: Any, manager: Any) -> None:
    """Let a connection manager be the chain's only network filter."""
    filter_ = filter_chain.filters.add()
    filter_.name = FILTER
    filter_.typed_config.CopyFrom(pack(manager))
