"""Health checking and server reflection: what load balancers and `grpcurl` ask of any gRPC server.

Both speak grpcio's own messages, which live in protobuf's default pool; reflection answers from our private pool, since
that is where Envoy's services are described.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from xds.schema.pool import loaded_pool
from xds.server.hub import Hub

_HEALTH: Final = "grpc.health.v1.Health"
_REFLECTION: Final = "grpc.reflection.v1alpha.ServerReflection"
_WATCH_SECONDS: Final = 1.0


def reflection_methods(hub: Hub, services: Sequence[str]) -> Mapping[str, Any]:
    """The services of this module → their methods; `services` are the others that the server has."""
    names = sorted([*services, _HEALTH, _REFLECTION])
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
        _REFLECTION: {
            "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
                _reflect(names),
                request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
                response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
            )
        },
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
    try:
        if asked == "file_by_filename":
            file = loaded_pool().FindFileByName(request.file_by_filename)
        elif asked == "file_containing_symbol":
            file = loaded_pool().FindFileContainingSymbol(request.file_containing_symbol)
        else:
            return _not_found(response, f"cannot tell {asked}")
    except KeyError as error:
        return _not_found(response, str(error.args[0]))
    response.file_descriptor_response.file_descriptor_proto.extend(_with_imports(file))
    return response


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
