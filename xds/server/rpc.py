"""gRPC in bytes: the little that all services here need of grpcio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio

Handler = Callable[[Any, Any], Awaitable[None]]

# What `context.read()` returns when the client has no more to say; grpcio's type stubs do not know it.
END: Final[Any] = vars(grpc.aio)["EOF"]


def unary_method(handler: Callable[[bytes, Any], Awaitable[bytes]]) -> Any:
    """A method that is handed the bytes of one request and hands out those of one answer."""
    return grpc.unary_unary_rpc_method_handler(handler, request_deserializer=None, response_serializer=None)


def stream_method(handler: Handler) -> Any:
    """A bidirectional method that is handed bytes and hands out bytes."""
    return grpc.stream_stream_rpc_method_handler(handler, request_deserializer=None, response_serializer=None)
