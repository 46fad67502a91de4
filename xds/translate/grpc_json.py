"""gRPC-JSON transcoding: JSON over HTTP becomes gRPC for a route's backend, by a descriptor of its services.

The descriptor goes into each route, so that a changed one changes no listener. It cannot be shared: what a route says
to the filter takes the place of the filter's own configuration as a whole, descriptor included, and a filter for each
descriptor, fed over ECDS, would change the listener for each new one.

It is judged here as Envoy will judge it when it takes the route: one file after the other, each with what it imports
before it. A route whose descriptor cannot be used gets no transcoding, and the policy's status says why.
"""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message import DecodeError

from mesh.config_maps import config_map_entry
from mesh.kinds.routepolicy import GRPCJSON
from mesh.model import ObjectKey
from mesh.tables import Reader
from xds.schema import message, pack
from xds.translate.http_filters import GRPC_JSON, http_filter

_Transcoder = message("envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder")
_MOST_BYTES = 256 * 1024


def _doing_nothing() -> Any:
    config = _Transcoder()
    config.proto_descriptor_bin = b""  # one must be named; without services it is not read
    return pack(config)


FILTER = http_filter(GRPC_JSON, _doing_nothing())


def set_grpc_json(look: Reader, route: Any, wanted: GRPCJSON, said_by: ObjectKey) -> str:
    """Give a `Route` transcoding; why it cannot have it, or nothing."""
    source = wanted.descriptor
    descriptor: bytes | str = base64.b64decode(source.inline or "")
    if source.config_map is not None:
        descriptor = config_map_entry(look, said_by.namespace, source.config_map)
    if isinstance(descriptor, str):
        return descriptor
    problem = judged(descriptor, wanted.services)
    if problem:
        return problem
    config = _Transcoder()
    config.proto_descriptor_bin = descriptor
    config.services.extend(wanted.services)
    config.auto_mapping = wanted.auto_mapping
    config.ignore_unknown_query_parameters = wanted.ignore_unknown_query_parameters
    config.convert_grpc_status = wanted.convert_status
    config.match_incoming_request_route = True
    config.print_options.preserve_proto_field_names = wanted.preserve_field_names
    config.print_options.always_print_primitive_fields = wanted.print_defaults
    route.typed_per_filter_config[GRPC_JSON].CopyFrom(pack(config))
    return ""


@lru_cache(maxsize=64)
def judged(descriptor: bytes, services: tuple[str, ...]) -> str:
    """Why a descriptor cannot be used for these services, as a sentence without its full stop; empty where it can."""
    if len(descriptor) > _MOST_BYTES:
        return f"the descriptor has {len(descriptor)} bytes, at most {_MOST_BYTES} are taken"
    files = descriptor_pb2.FileDescriptorSet()
    try:
        files.ParseFromString(descriptor)
    except DecodeError:
        return "the descriptor is no FileDescriptorSet (`protoc --include_imports --descriptor_set_out=FILE …`)"
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        try:
            pool.AddSerializedFile(file.SerializeToString())
        except TypeError as error:
            name = file.name or "a file"
            return f"{name} of the descriptor cannot be built (was it made with --include_imports?): {error}"
    for name in services:
        try:
            pool.FindServiceByName(name)
        except KeyError:
            known = [
                f"{file.package}.{service.name}" if file.package else service.name
                for file in files.file
                for service in file.service
            ]
            return f"the descriptor has no service {name}; it has: {', '.join(known[:8]) or 'none'}"
    return ""
