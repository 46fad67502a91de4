"""The private descriptor pool that holds Envoy's schema, and message classes by full name.

Private, because the default pool belongs to whatever generated modules other libraries import (grpcio's health and
reflection services, an installed xds-protos): two versions of one file in one pool are an error. A message of this
pool therefore never mixes with one from a `_pb2` module; that includes protobuf's own, such as `google.protobuf.Any`.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.internal import enum_type_wrapper

from xds.schema import descriptors
from xds.schema.errors import SchemaError

_lock = threading.Lock()
_loaded: list[Any] = []  # the pool, from first use on


def loaded_pool() -> Any:
    """The pool (`google.protobuf.descriptor_pool.DescriptorPool`); the first call loads it, in 20 to 40 ms.

    Raises `SchemaError` when the schema is missing or damaged and cannot be made.
    """
    if not _loaded:
        # One pool per process: classes made from two pools would not be each other's equals.
        with _lock:
            if not _loaded:
                _loaded.append(_load())
    return _loaded[0]


@cache
def message(full_name: str) -> Any:
    """The class of a message by its full name, such as `envoy.config.cluster.v3.Cluster`; the same class every time.

    Raises `SchemaError` when Envoy's schema has no such message.
    """
    try:
        return message_factory.GetMessageClass(loaded_pool().FindMessageTypeByName(full_name))
    except KeyError as error:
        raise SchemaError(f"Envoy's schema has no message {full_name}") from error


@cache
def enum(full_name: str) -> Any:
    """A top-level enum by its full name: `enum("envoy.config.core.v3.HealthStatus").HEALTHY` is a plain int.

    Raises `SchemaError` when Envoy's schema has no such enum.
    """
    try:
        return enum_type_wrapper.EnumTypeWrapper(loaded_pool().FindEnumTypeByName(full_name))
    except KeyError as error:
        raise SchemaError(f"Envoy's schema has no enum {full_name}") from error


def _load() -> Any:
    made = descriptor_pool.DescriptorPool()
    for file in descriptors.load():
        try:
            made.AddSerializedFile(file)
        except TypeError as error:
            raise SchemaError(f"{descriptors.FILE} is inconsistent ({error}); delete it") from error
    return made
