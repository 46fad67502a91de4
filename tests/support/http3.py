"""One request over HTTP/3, by a client that is no Envoy (aioquic)."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, NamedTuple

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent
from aioquic.tls import SessionTicket


class Answer3(NamedTuple):
    """What came over HTTP/3.

    `limits`: the bytes of the connection and of a stream, and the streams, that it takes. `resumed`: the handshake was
    shorter, for the client has been there. `early`: so early that the request came along with it.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    limits: tuple[int, int, int] = (0, 0, 0)
    resumed: bool = False
    early: bool = False


class _Client(QuicConnectionProtocol):
    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._http = H3Connection(self._quic)
        self._answer = asyncio.get_running_loop().create_future()
        self._headers: dict[str, str] = {}
        self._body = b""

    async def get(self, host: str, path: str, method: str = "GET") -> Answer3:
        stream = self._quic.get_next_available_stream_id()
        request = {":method": method, ":scheme": "https", ":authority": host, ":path": path}
        headers = [(name.encode(), value.encode()) for name, value in request.items()]
        self._http.send_headers(stream_id=stream, headers=headers, end_stream=True)
        self.transmit()
        answer: Answer3 = await self._answer
        quic = self._quic
        told = quic._remote_max_data, quic._remote_max_stream_data_bidi_remote, quic._remote_max_streams_bidi
        tls = quic.tls
        return answer._replace(limits=told, resumed=tls.session_resumed, early=tls.early_data_accepted)

    def quic_event_received(self, event: QuicEvent) -> None:
        """Collect the answer."""
        if isinstance(event, ConnectionTerminated) and not self._answer.done():
            self._answer.set_exception(ConnectionError(event.reason_phrase))
        for found in self._http.handle_event(event):
            if isinstance(found, HeadersReceived):
                self._headers |= {name.decode(): value.decode() for name, value in found.headers}
            elif isinstance(found, DataReceived):
                self._body += found.data
            if isinstance(found, HeadersReceived | DataReceived) and found.stream_ended and not self._answer.done():
                self._answer.set_result(Answer3(int(self._headers[":status"]), self._headers, self._body))


def get3(
    port: int,
    host: str,
    path: str = "/",
    *,
    patience: float = 10,
    tickets: list[SessionTicket] | None = None,
    early: bool = False,
) -> Answer3:
    """GET over HTTP/3 on a connection of its own, whoever the server says it is.

    The first of `tickets` is used, and those that come are added. `early`: a POST along with the handshake instead.

    Raises:
        ConnectionError: nobody answered there for `patience` seconds, or the connection ended.
    """

    async def ask() -> Answer3:
        configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE)
        configuration.server_name = host
        configuration.session_ticket = tickets[0] if tickets else None
        keep = tickets.append if tickets is not None else None
        async with connect(
            "127.0.0.1",
            port,
            configuration=configuration,
            create_protocol=_Client,
            session_ticket_handler=keep,
            wait_connected=not early,
        ) as client:
            assert isinstance(client, _Client)
            return await client.get(host, path, "POST" if early else "GET")

    try:
        return asyncio.run(asyncio.wait_for(ask(), patience))
    except TimeoutError as error:
        raise ConnectionError(f"nobody answers HTTP/3 at port {port}") from error
