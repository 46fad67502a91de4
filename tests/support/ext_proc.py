"""An external processor (Envoy's `ext_proc`) for tests, without generated code."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from xds.schema import message

_Request = message("envoy.service.ext_proc.v3.ProcessingRequest")
_Response = message("envoy.service.ext_proc.v3.ProcessingResponse")
_SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"


class Processor:
    """Adds `x-processed: <path>` to requests and `x-answered: yes` to answers; refuses `/refused` with 403.

    It turns bodies into capitals, and keeps `/slow` waiting until it is `released`. `kinds` are what each stream that
    has begun was shown.
    """

    def __init__(self) -> None:
        self.port = 0
        self.released = threading.Event()
        self.kinds: list[list[str]] = []

    def process(self, requests: Iterator[bytes], _context: Any) -> Iterator[bytes]:
        """One request's stream."""
        shown: list[str] = []
        self.kinds.append(shown)
        for data in requests:
            asked = _Request.FromString(data)
            shown.append(str(asked.WhichOneof("request")))
            yield self._answer(asked).SerializeToString()

    def _answer(self, asked: Any) -> Any:
        made = _Response()
        if asked.HasField("request_headers"):
            headers = {one.key: one.raw_value.decode() for one in asked.request_headers.headers.headers}
            path = headers[":path"]
            if path == "/slow":
                self.released.wait(20)
            if path == "/refused":
                made.immediate_response.status.code = 403
                made.immediate_response.body = b"not here"
                return made
            _set(made.request_headers.response.header_mutation, "x-processed", path)
        elif asked.HasField("response_headers"):
            _set(made.response_headers.response.header_mutation, "x-answered", "yes")
        elif asked.HasField("request_body"):
            made.request_body.response.body_mutation.body = asked.request_body.body.upper()
        else:
            made.response_body.SetInParent()
        return made


def _set(mutation: Any, name: str, value: str) -> None:
    option = mutation.set_headers.add()
    option.header.key = name
    option.header.raw_value = value.encode()


@contextlib.contextmanager
def processor() -> Iterator[Processor]:
    """A processor that runs until the block ends."""
    made = Processor()
    server = grpc.server(ThreadPoolExecutor(8))
    handler = grpc.stream_stream_rpc_method_handler(made.process)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"Process": handler}),))
    made.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield made
    finally:
        made.released.set()
        server.stop(None).wait()
