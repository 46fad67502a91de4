"""HTTP/3: a listener for QUIC on a port's UDP side, and the header by which answers over TCP tell clients of it.

Each HTTPS listener that speaks HTTP/3 has a filter chain of the same name there, with the same certificates, the same
manager and the same routes, so that a request finds the same way whatever it came by.
"""

from __future__ import annotations

from typing import Any

from mesh.kinds.clientpolicy import ClientHTTP3, SessionResumption
from mesh.kinds.duration import milliseconds
from xds.schema import message, pack
from xds.schema.types import HttpConnectionManager, SocketAddress
from xds.translate.http_filters import ALT_SVC, Filter, http_filter

TRANSPORT_SOCKET = "envoy.transport_sockets.quic"
ALPN = ("h3",)
_STREAMS = 100
_ADVERTISED_SECONDS = 86_400

_HeaderMutation = message("envoy.extensions.filters.http.header_mutation.v3.HeaderMutation")
_QuicDownstreamTransport = message("envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport")


def make_quic(listener: Any, wanted: ClientHTTP3) -> None:
    """Have a listener take QUIC. Limits are those of the port: a connection begins before its host is known."""
    listener.address.socket_address.protocol = SocketAddress.UDP
    options = listener.udp_listener_config.quic_options.quic_protocol_options
    options.max_concurrent_streams.value = wanted.max_concurrent_streams or _STREAMS
    for name in ("initial_stream_window_size", "initial_connection_window_size"):
        value = getattr(wanted, name)
        if value is not None:
            getattr(options, name).value = value
    # Without it a packet would go to the worker that happens to wake first.
    listener.enable_reuse_port.value = True


def wrap_in_quic(
    transport_socket: Any, context: Any, wanted: ClientHTTP3, resumption: SessionResumption | None = None
) -> None:
    """Fill a chain's transport socket with the TLS of QUIC, of which `context` is a `DownstreamTlsContext`.

    Of that QUIC ignores what is said of resumption; it has only tickets. Without these there is no early data.
    """
    transport = _QuicDownstreamTransport()
    resumed = resumption is None or resumption.stateless is not False
    if not resumed:
        transport.enable_resumption.value = False
    transport.enable_early_data.value = resumed and bool(wanted.early_data)
    transport.downstream_tls_context.CopyFrom(context)
    transport_socket.name = TRANSPORT_SOCKET
    transport_socket.typed_config.CopyFrom(pack(transport))


def speak_http3(manager: Any) -> None:
    """Have a `HttpConnectionManager` speak HTTP/3 and nothing else."""
    manager.codec_type = HttpConnectionManager.HTTP3
    manager.http3_protocol_options.SetInParent()


def advertising(wanted: ClientHTTP3, port: int) -> Filter:
    """The filter that tells clients over TCP where HTTP/3 is (RFC 7838)."""
    told = milliseconds(wanted.advertised_for) // 1000 if wanted.advertised_for else _ADVERTISED_SECONDS
    config = _HeaderMutation()
    append = config.mutations.response_mutations.add().append
    append.header.key = "alt-svc"
    append.header.value = f'h3=":{wanted.advertised_port or port}"; ma={told}'
    append.append_action = 2  # OVERWRITE_IF_EXISTS_OR_ADD: a backend's own word would lead past us
    return http_filter(ALT_SVC, pack(config))
