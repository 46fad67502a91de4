"""A collector of logs and traces over gRPC, which keeps what it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from tests.support.servers import GrpcServer
from xds.schema import message

LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
ALS = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
_Entries = message("envoy.service.accesslog.v3.StreamAccessLogsMessage")


def _fields(data: bytes) -> dict[int, list[Any]]:
    """The fields of a message by number: OpenTelemetry's types are not among those that Envoy's descriptors tell."""
    found: dict[int, list[Any]] = {}
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        value: Any
        if key & 7 == 0:
            value, at = _varint(data, at)
        elif key & 7 == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            size = 8 if key & 7 == 1 else 4
            value, at = data[at : at + size], at + size
        found.setdefault(key >> 3, []).append(value)
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at


def _each(data: bytes, *path: int) -> Iterator[bytes]:
    """The messages at a path of field numbers."""
    if not path:
        yield data
        return
    for inner in _fields(data).get(path[0], ()):
        yield from _each(inner, *path[1:])


def _texts(pairs: list[bytes]) -> dict[str, str]:
    """`KeyValue`s whose values are strings."""
    found = {}
    for pair in pairs:
        for text in _each(pair, 2, 1):
            found[next(_each(pair, 1)).decode()] = text.decode()
    return found


class Span:
    """A span, as far as tests look at it; `server` says that it is of a request that came in."""

    def __init__(self, data: bytes) -> None:
        fields = _fields(data)
        self.server = fields.get(6) == [2]
        self.attributes = _texts(fields.get(9, []))


class Record:
    """A log record, as far as tests look at it."""

    def __init__(self, data: bytes) -> None:
        fields = _fields(data)
        self.body = next(_each(data, 5, 1), b"").decode()
        self.attributes = _texts(fields.get(6, []))


class Collector(GrpcServer):
    """Serves on `port` while the block runs; `spans`, `logs` and `entries` are what came, oldest first.

    `services` are those that spans say they are of, `log_names` those of entries.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.logs: list[Record] = []
        self.entries: list[Any] = []
        self.services: set[str] = set()
        self.log_names: set[str] = set()
        self._lock = threading.Lock()
        super().__init__()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """The three methods that Envoy asks for."""
        takers: dict[str, Callable[[bytes], None]] = {LOGS: self._logs, TRACES: self._traces}
        if details.method == ALS:
            return grpc.stream_unary_rpc_method_handler(self._stream)
        take = takers.get(details.method)
        return grpc.unary_unary_rpc_method_handler(lambda data, _: self._kept(take, data)) if take else None

    def _kept(self, take: Callable[[bytes], None], data: bytes) -> bytes:
        with self._lock:
            take(data)
        return b""

    def _traces(self, data: bytes) -> None:
        self.spans.extend(Span(one) for one in _each(data, 1, 2, 2))
        attributes = [_texts(_fields(resource).get(1, [])) for resource in _each(data, 1, 1)]
        self.services.update(one["service.name"] for one in attributes if "service.name" in one)

    def _logs(self, data: bytes) -> None:
        self.logs.extend(Record(one) for one in _each(data, 1, 2, 2))

    def _stream(self, messages: Iterator[bytes], _context: object) -> bytes:
        for data in messages:
            with self._lock:
                came = _Entries.FromString(data)
                self.log_names.update({came.identifier.log_name} - {""})
                self.entries.extend(came.http_logs.log_entry)
        return b""
