"""A gRPC service with HTTP options, described and served without generated code: `shop.v1.Cart`."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf import descriptor_pb2

CART = "shop.v1.Cart"
_HTTP_OPTION = 72_295_728  # `google.api.http` of MethodOptions
_STRING = descriptor_pb2.FieldDescriptorProto.TYPE_STRING


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    made = b""
    while value > 0x7F:
        made, value = made + bytes([value & 0x7F | 0x80]), value >> 7
    return made + bytes([value])


def cart_descriptor(path: str = "/v1/items/{id}") -> bytes:
    """A FileDescriptorSet: `Get` is `GET <path>`, `Put` has no HTTP options; both take and give an Item (id, name)."""
    files = descriptor_pb2.FileDescriptorSet()
    file = files.file.add(name="cart.proto", package="shop.v1", syntax="proto3")
    item = file.message_type.add(name="Item")
    for number, name in enumerate(("id", "full_name"), start=1):
        item.field.add(name=name, number=number, type=_STRING, label=1)
    service = file.service.add(name="Cart")
    for name in ("Get", "Put"):
        service.method.add(name=name, input_type=".shop.v1.Item", output_type=".shop.v1.Item")
    service.method[0].options.MergeFromString(_field(_HTTP_OPTION, _field(2, path.encode())))
    return files.SerializeToString()


def cart_base64(path: str = "/v1/items/{id}") -> str:
    """The same as a policy has it."""
    return base64.b64encode(cart_descriptor(path)).decode()


@contextlib.contextmanager
def cart_server() -> Iterator[int]:
    """A backend that names the item it was asked for, and tells nobody of the item `secret`; its port."""

    def answer(request: bytes, context: Any) -> bytes:
        if request == _field(1, b"secret"):
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")
        return request + _field(2, b"a cup")

    server = grpc.server(ThreadPoolExecutor(2))
    handlers = {name: grpc.unary_unary_rpc_method_handler(answer) for name in ("Get", "Put")}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(CART, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()
