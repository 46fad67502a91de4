"""What older Envoys are not sent: resources that use something their schema lacks.

An older Envoy ignores a field that it does not know, so that a policy would silently do nothing, and rejects a message
that it does not know. Such a resource is kept from it as a whole and counted; the field cannot be taken out without
changing what the user asked for.
"""

from __future__ import annotations

import weakref
from functools import lru_cache
from typing import Final

from google.protobuf.message import DecodeError

from xds.protocol.contents import Contents, Entry
from xds.schema import SchemaError, unpack
from xds.schema.descriptors import envoy_version
from xds.schema.types import Any
from xds.schema.versions import unknown_to
from xds.server.telemetry import Telemetry

# Verdicts remembered; one per older version and resource.
_KEPT: Final = 100_000


class Older:
    """Filters contents for older Envoys. Proxies of a version share what is left."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._verdicts: dict[tuple[str, str, str, str], tuple[str, ...]] = {}
        self._filtered: weakref.WeakKeyDictionary[Contents, dict[str, Contents | None]] = weakref.WeakKeyDictionary()

    def concerns(self, version: str) -> bool:
        """Whether an Envoy of this version is older than our schema; what is not Envoy says no version."""
        minor = _minor(version)
        return minor is not None and minor < (_minor(envoy_version()) or minor)

    def without_unknown(self, version: str, type_url: str, contents: Contents) -> Contents:
        """The contents less what an Envoy of this version would not understand."""
        by_version = self._filtered.setdefault(contents, {})
        if version not in by_version:
            unknown = [name for name, entry in contents.entries.items() if self.unknown(version, type_url, entry)]
            # The contents themselves must not be kept by what is kept for them, or they would never go.
            by_version[version] = contents.without(unknown) if unknown else None
            self._telemetry.left_out[version, type_url] = len(unknown)
        return by_version[version] or contents

    def unknown(self, version: str, type_url: str, entry: Entry) -> tuple[str, ...]:
        """The paths in a resource that an Envoy of this version does not know."""
        key = (version, type_url, entry.name, entry.version)
        found = self._verdicts.get(key)
        if found is None:
            if len(self._verdicts) >= _KEPT:
                self._verdicts.clear()
            found = self._verdicts[key] = _paths(version, entry.content)
        return found


def _paths(version: str, content: bytes) -> tuple[str, ...]:
    try:
        return tuple(unknown_to(version, unpack(Any.FromString(content))))
    except (DecodeError, SchemaError):
        # What we cannot read ourselves we do not judge; Envoy will.
        return ()


@lru_cache(maxsize=256)
def _minor(version: str) -> tuple[int, int] | None:
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None
