"""Listeners of a gateway: one per address and port, with a filter chain for HTTP, one per HTTPS hostname, and so on.

HTTP routes are not in here and never change a listener: only the Gateway itself does. (Those of connections that pass
as they are have no other place: `stream_tables`.) Several HTTP listeners of one port
share one chain, since only the Host header tells them apart; HTTPS listeners are told apart by SNI, and a client that
names none of them is cut off unless a listener takes any host.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from mesh.certificates import SecretKey
from mesh.client_policies import NOTHING
from mesh.gateways import GatewayKey
from mesh.hostnames import ANY
from mesh.kinds.clientpolicy import ClientHTTP3, ClientSettings, ClientTLS
from mesh.telemetry_policies import SILENT, ListenerTelemetry
from xds.schema import pack
from xds.schema.types import Listener, SocketAddress, TlsInspector
from xds.translate.client_policy import set_chain, set_port
from xds.translate.http3 import ALPN as HTTP3_ALPN
from xds.translate.http3 import advertising, make_quic, speak_http3, wrap_in_quic
from xds.translate.http_connection_manager import FILTER, gateway_manager
from xds.translate.http_filters import Filter
from xds.translate.names import listener_name, stat_name
from xds.translate.stream_tables import StreamHost, StreamShare
from xds.translate.tcp_proxy import add_tcp_proxy
from xds.translate.timeouts import set_duration
from xds.translate.tls import ALPN, ClientTrust, downstream_tls, set_downstream_tls
from xds.translate.udp_proxy import add_udp_proxy

EVERY_ADDRESS = "::"
_FIRST_BYTES_MILLISECONDS = 15_000  # Envoy's own


class Chain(msgspec.Struct, frozen=True):
    """A filter chain: its name, which its routes bear too, and for HTTPS its hostname and certificates.

    `stream` is set where connections pass as they are: their shares. `by_server_name`: only TLS comes in here.
    `settings` is what ClientPolicies say, `telemetry` what is told of requests. `http3`: there is a chain for QUIC too.
    """

    name: str
    hostname: str = ANY
    certificates: tuple[SecretKey, ...] = ()
    stream: tuple[StreamShare, ...] | None = None
    by_server_name: bool = False
    clients: ClientTrust | None = None
    settings: ClientSettings = NOTHING
    http3: bool = False
    telemetry: ListenerTelemetry = SILENT


def gateway_listener(
    address: str,
    port: int,
    chains: Iterable[Chain],
    *,
    scoped: bool,
    gateway: GatewayKey,
    shared: ClientSettings = NOTHING,
) -> Any:
    """The listener at an address; `EVERY_ADDRESS` takes IPv4 as well. `scoped`: it gets its routes by scope.

    `shared` is what policies say of the port.
    """
    listener = _at(address, port)
    set_port(listener, shared)
    tls = False
    for chain in chains:
        made = listener.filter_chains.add()
        made.name = chain.name
        if chain.certificates:
            alpn = ALPN if chain.stream is None else ()
            context = downstream_tls(chain.certificates, alpn=alpn, clients=chain.clients, wanted=chain.settings.tls)
            set_downstream_tls(made.transport_socket, context)
        if chain.certificates or chain.by_server_name:
            tls = True
            if chain.hostname != ANY:
                made.filter_chain_match.server_names.append(chain.hostname)
        if chain.by_server_name:
            made.filter_chain_match.transport_protocol = "tls"
        set_chain(made, chain.settings, stat_name(chain.name))
        if chain.stream is not None:
            timeouts = chain.settings.timeouts
            add_tcp_proxy(made, chain.stream, idle=timeouts.idle if timeouts is not None else None)
        else:
            told = advertising(chain.settings.http3 or ClientHTTP3(), port) if chain.http3 else None
            add_manager(made, _manager(chain, gateway, scoped=scoped, told=told))
    if tls:
        inspector = listener.listener_filters.add()
        inspector.name = "envoy.filters.listener.tls_inspector"
        inspector.typed_config.CopyFrom(pack(_tls_inspector(shared)))
    _limit_first_bytes(listener)
    return listener


def _tls_inspector(shared: ClientSettings) -> Any:
    inspector = TlsInspector()
    fingerprints = (shared.tls.fingerprints if shared.tls is not None else None) or ()
    if "JA3" in fingerprints:
        inspector.enable_ja3_fingerprinting.value = True
    if "JA4" in fingerprints:
        inspector.enable_ja4_fingerprinting.value = True
    return inspector


def _limit_first_bytes(listener: Any) -> None:
    """Until a client has said for whom it comes no chain's time for the handshake runs: that is the listener's then."""
    waits = [chain.transport_socket_connect_timeout for chain in listener.filter_chains]
    if any(wait.seconds or wait.nanos for wait in waits):
        longest = max(wait.seconds * 1000 + wait.nanos // 1_000_000 or _FIRST_BYTES_MILLISECONDS for wait in waits)
        set_duration(listener.listener_filters_timeout, longest)


def _manager(chain: Chain, gateway: GatewayKey, *, scoped: bool, told: Filter | None = None) -> Any:
    return gateway_manager(
        chain.name, scoped=scoped, gateway=gateway, settings=chain.settings, told=told, telemetry=chain.telemetry
    )


def quic_listener(
    address: str,
    port: int,
    chains: Iterable[Chain],
    *,
    scoped: bool,
    gateway: GatewayKey,
    shared: ClientSettings = NOTHING,
) -> Any:
    """The listener for HTTP/3 at an address, beside that for TCP; `shared` is what policies say of the port."""
    listener = _at(address, port, udp=True)
    make_quic(listener, shared.http3 or ClientHTTP3())
    for chain in chains:
        made = listener.filter_chains.add()
        made.name = chain.name
        if chain.hostname != ANY:
            made.filter_chain_match.server_names.append(chain.hostname)
        wanted = chain.settings.tls or ClientTLS()
        context = downstream_tls(chain.certificates, alpn=HTTP3_ALPN, wanted=ClientTLS(curves=wanted.curves))
        http3 = chain.settings.http3 or ClientHTTP3()
        wrap_in_quic(made.transport_socket, context, http3, wanted.session_resumption)
        manager = _manager(chain, gateway, scoped=scoped)
        speak_http3(manager)
        add_manager(made, manager)
    return listener


def udp_listener(address: str, port: int, hosts: Sequence[StreamHost]) -> Any:
    """The listener for datagrams at an address."""
    listener = _at(address, port, udp=True)
    listener.address.socket_address.protocol = SocketAddress.UDP
    add_udp_proxy(listener, hosts)
    return listener


def _at(address: str, port: int, *, udp: bool = False) -> Any:
    listener = Listener()
    listener.name = listener_name(address, port, udp=udp)
    listener.stat_prefix = stat_name(listener.name)
    set_address(listener, address, port)
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
