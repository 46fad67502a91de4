"""Envoy's message types, exactly as the Envoy we ship with knows them.

The types come from the descriptors that the Envoy binary itself carries (`extract`), live in a private descriptor pool
(`pool`) and are protobuf's C messages. What is here:

- `xds.schema.types`: the messages by their short names, `from xds.schema.types import Cluster`;
- `message("envoy....")`: any message by its full name;
- `xds.schema.type_urls`: the type URLs that xDS speaks of, free of protobuf;
- `encode`, `version_of`, `pack`, `any_bytes`, `to_dict`, `from_dict`: bytes, digests, `Any` and dictionaries;
- `xds.schema.rules`: would Envoy reject this message, and why;
- `xds.schema.versions`: what an older Envoy's schema lacks;
- `xds.schema.redact`: messages as they may be shown, without their secrets.

Importing this package loads nothing: each name below is fetched from its module on first use, so that `type_urls` and
the command line stay quick. No translation, no model and no I/O beyond the descriptor file belong here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xds.schema.codec import (
        any_bytes,
        encode,
        frame_any,
        from_dict,
        pack,
        to_dict,
        unpack,
        version_of,
    )
    from xds.schema.errors import SchemaError
    from xds.schema.pool import enum, message

__all__ = [
    "SchemaError",
    "any_bytes",
    "encode",
    "enum",
    "frame_any",
    "from_dict",
    "message",
    "pack",
    "to_dict",
    "unpack",
    "version_of",
]

_HOME = {
    "SchemaError": "errors",
    **dict.fromkeys(("enum", "message"), "pool"),
    **dict.fromkeys(
        ("any_bytes", "encode", "frame_any", "from_dict", "pack", "to_dict", "unpack", "version_of"), "codec"
    ),
}


def __getattr__(name: str) -> Any:
    """Fetch a public name from its module once; afterwards it is an ordinary global."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
