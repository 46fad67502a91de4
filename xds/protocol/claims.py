"""What a returning client says it holds: `initial_resource_versions`, compared as bytes where it can be.

Nearly always a client that comes back holds exactly what it should. So the entries of the map stay the bytes they came
as, and are compared with those that a client in that state sends; only where they differ are they read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError

from xds.protocol.frames import claim
from xds.schema.pool import message


@dataclass(frozen=True, slots=True)
class Claims:
    """Entries of the map, each in its wire form without the tag and length of the field."""

    entries: frozenset[bytes] = frozenset()

    def versions(self) -> dict[str, str]:
        """Name → version. An entry that cannot be read claims nothing: its resource will be sent."""
        versions = {}
        for entry in self.entries:
            try:
                read = _entry().FromString(entry)
            except DecodeError:
                continue
            versions[read.key] = read.value
        return versions

    @classmethod
    def of(cls, versions: Mapping[str, str]) -> Claims:
        """The claims of a client that holds these."""
        return cls(frozenset(claim(name, version) for name, version in versions.items()))


NO_CLAIMS: Final = Claims()


def _entry() -> Any:
    return message("envoy.service.discovery.v3.DeltaDiscoveryRequest.InitialResourceVersionsEntry")
