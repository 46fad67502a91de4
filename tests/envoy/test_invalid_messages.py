"""Messages of HTTP/2 that are not allowed: what ends for them, the connection or only their stream."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest

from tests.support.edge import HOST, Edge, dialled
from tests.support.routing import Server, serving
from tests.support.upstreams import upstreams

pytestmark = pytest.mark.envoy

BROKEN = ("x-broken", "a\x00b")  # no value of a header may have it (RFC 9110)
CONFIG = {"validate_outbound_headers": False, "normalize_outbound_headers": False, "header_encoding": "utf-8"}


def ask(connection: h2.connection.H2Connection, *more: tuple[str, str]) -> int:
    """Send a request; the number of its stream."""
    stream = connection.get_next_available_stream_id()
    head = [(":method", "GET"), (":scheme", "http"), (":authority", HOST), (":path", "/"), *more]
    connection.send_headers(stream, head, end_stream=True)
    return stream


def answered(at: socket.socket, connection: h2.connection.H2Connection) -> Iterator[tuple[int, str]]:
    """Streams as they end, with their status or how else they ended, until the connection does."""
    at.sendall(connection.data_to_send())
    with contextlib.suppress(ConnectionResetError):
        while data := at.recv(65_536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    yield event.stream_id, dict(event.headers)[":status"]
                elif isinstance(event, h2.events.StreamReset):
                    yield event.stream_id, "reset"
            at.sendall(connection.data_to_send())


@pytest.mark.shows("ClientPolicy.http2", "onInvalidMessage")
def test_a_clients_broken_request_ends_its_connection_or_itself_alone(tmp_path: Path, backend: Server) -> None:
    def outcome(port: int) -> dict[int, str]:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(**CONFIG))
        with dialled(port) as at:
            connection.initiate_connection()
            broken, good = ask(connection, BROKEN), ask(connection)
            seen = {}
            for stream, end in answered(at, connection):
                seen[stream] = end
                if stream == good:
                    break
            return {number: seen.get(stream, "") for number, stream in enumerate((broken, good))}

    edge = Edge(backend.server_port, plain={}, tuned={"http2": {"onInvalidMessage": "TerminateStream"}})
    with serving(edge.text, tmp_path):
        assert outcome(edge.ports["tuned"]) == {0: "reset", 1: "200"}
        assert outcome(edge.ports["plain"])[1] == "", "the connection ended before"


def answer_two(listening: socket.socket) -> None:
    """Take connections whose first two requests are answered together: the first brokenly, the second well."""
    with contextlib.suppress(OSError):
        while True:
            at, _ = listening.accept()
            with at, contextlib.suppress(OSError):
                _answer_two(at)


def _answer_two(at: socket.socket) -> None:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, **CONFIG))
    connection.initiate_connection()
    at.sendall(connection.data_to_send())
    waiting: list[int] = []
    while data := at.recv(65_536):
        events = connection.receive_data(data)
        waiting += [event.stream_id for event in events if isinstance(event, h2.events.RequestReceived)]
        if len(waiting) == 2:
            for stream, more in zip(waiting, ([BROKEN], []), strict=True):
                connection.send_headers(stream, [(":status", "200"), *more], end_stream=True)
            waiting.clear()
        at.sendall(connection.data_to_send())


@pytest.mark.shows("TrafficPolicy.http.http2", "onInvalidMessage")
def test_a_backends_broken_answer_ends_its_connection_or_itself_alone(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        for server in servers:
            threading.Thread(target=answer_two, args=(server,), daemon=True).start()
        plain, tuned = (server.getsockname()[1] for server in servers)
        http2 = {"onInvalidMessage": "TerminateStream"}
        wanted = {"plain": ([plain], {}), "tuned": ([tuned], {"http": {"http2": http2}})}
        with upstreams(tmp_path, wanted, protocol="HTTP2") as shop:
            for name, statuses in (("tuned", [200, 502]), ("plain", [502, 502])):
                asked = [shop.asking(name) for _ in range(2)]
                assert sorted(one.result()[0] for one in asked) == statuses, name
