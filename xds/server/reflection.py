"""Health checking and server reflection: what load balancers and `grpcurl` ask of any gRPC server.

Both speak grpcio's own messages, which live in protobuf's default pool. Reflection answers from our private pool, where
Envoy's services are described, and for these two from a small one of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from xds.schema.pool import loaded_pool
from xds.server.hub import Hub

_HEALTH: Final = "grpc.health.v1.Health"
_REFLECTION: Final = "grpc.reflection.v1.ServerReflection"
_REFLECTION_ALPHA: Final = "grpc.reflection.v1alpha.ServerReflection"  # the same messages; what older clients ask for
_WATCH_SECONDS: Final = 1.0


def reflection_methods(hub: Hub, services: Sequence[str]) -> Mapping[str, Any]:
    """The services of this module → their methods; `services` are the others that the server has."""
    names = sorted([*services, _HEALTH, _REFLECTION, _REFLECTION_ALPHA])
    reflection = {
        "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
            _reflect(names),
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
    }
    return {
        _HEALTH: {
            "Check": grpc.unary_unary_rpc_method_handler(
                _check(hub, names),
                request_deserializer=health_pb2.HealthCheckRequest.FromString,
                response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
            ),
            "Watch": grpc.unary_stream_rpc_method_handler(
                _watch(hub, names),
                request_deserializer=health_pb2.HealthCheckRequest.FromString,
                response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
            ),
        },
        _REFLECTION: reflection,
        _REFLECTION_ALPHA: reflection,
    }


def _check(hub: Hub, names: Sequence[str]) -> Any:
    async def check(request: Any, context: Any) -> Any:
        if request.service and request.service not in names:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service}")
        return health_pb2.HealthCheckResponse(status=_serving(hub))

    return check


def _watch(hub: Hub, names: Sequence[str]) -> Any:
    async def watch(request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ARG001 - gRPC's signature
        last = None
        while True:
            known = not request.service or request.service in names
            status = _serving(hub) if known else health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            if status != last:
                last = status
                yield health_pb2.HealthCheckResponse(status=status)
            await asyncio.sleep(_WATCH_SECONDS)

    return watch


def _serving(hub: Hub) -> Any:
    response = health_pb2.HealthCheckResponse
    return response.SERVING if hub.ready else response.NOT_SERVING


def _reflect(names: Sequence[str]) -> Any:
    async def reflect(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:  # noqa: ARG001
        async for request in requests:
            yield _reflected(request, names)

    return reflect


def _reflected(request: Any, names: Sequence[str]) -> Any:
    response = reflection_pb2.ServerReflectionResponse(valid_host=request.host, original_request=request)
    asked = request.WhichOneof("message_request")
    if asked == "list_services":
        response.list_services_response.service.extend(reflection_pb2.ServiceResponse(name=name) for name in names)
        return response
    if asked not in ("file_by_filename", "file_containing_symbol"):
        return _not_found(response, f"cannot tell {asked}")
    name = getattr(request, asked)
    file = _found(loaded_pool(), asked, name) or _found(_own_pool(), asked, name)
    if file is None:
        return _not_found(response, f"there is no {name}")
    response.file_descriptor_response.file_descriptor_proto.extend(_with_imports(file))
    return response


def _found(pool: DescriptorPool, asked: str, name: str) -> Any:
    try:
        return pool.FindFileByName(name) if asked == "file_by_filename" else pool.FindFileContainingSymbol(name)
    except KeyError:
        return None


@cache
def _own_pool() -> DescriptorPool:
    """The descriptions of this module's services, which Envoy's schema lacks; grpcio-reflection has no `v1` itself."""
    pool = DescriptorPool()
    alpha = FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)
    stable = json_format.MessageToJson(alpha).replace("v1alpha", "v1")
    for file in (
        health_pb2.DESCRIPTOR.serialized_pb,
        reflection_pb2.DESCRIPTOR.serialized_pb,
        json_format.Parse(stable, FileDescriptorProto()).SerializeToString(),
    ):
        pool.AddSerializedFile(file)
    return pool


def _not_found(response: Any, message: str) -> Any:
    response.error_response.error_code = grpc.StatusCode.NOT_FOUND.value[0]
    response.error_response.error_message = message
    return response


def _with_imports(file: Any) -> list[bytes]:
    """A file and everything it imports, so that a client needs to ask only once."""
    found: dict[str, bytes] = {}
    pending = [file]
    while pending:
        current = pending.pop()
        if current.name not in found:
            found[current.name] = current.serialized_pb
            pending.extend(current.dependencies)
    return list(found.values())
