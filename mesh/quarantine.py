"""Objects that are out of force because an Envoy refused what came of them, each alone.

An EnvoyPatch, a descriptor or a user's code can be such that only Envoy itself can tell that it is wrong. Nothing could
stand then but the last good version of all that it is part of. So the object goes instead: it is in force nowhere until
it says something else, and what it had a part in is made without it, which is another version.
"""

from __future__ import annotations

import hashlib

import msgspec

from mesh.kinds import encode
from mesh.kinds.meta import Object
from mesh.model import ObjectKey
from mesh.problems import sentence, shown
from mesh.tables import Input, Reader

LONGEST = 1000
"""Characters of what Envoy says that statuses repeat."""


class Quarantined(msgspec.Struct, frozen=True):
    """What an Envoy said of a resource that an object of this content had a part in."""

    fingerprint: str
    node: str
    resource: str
    detail: str

    @property
    def words(self) -> str:
        """The same, as a sentence."""
        return f"{self.node} refused {self.resource}: {sentence(shown(self.detail, LONGEST))}"


QUARANTINE: Input[ObjectKey, Quarantined] = Input("quarantine")


def fingerprint(item: Object) -> str:
    """What is the same as long as an object says the same."""
    bare = msgspec.structs.replace(item, metadata=msgspec.structs.replace(item.metadata, resource_version=""))
    return hashlib.sha256(encode(bare)).hexdigest()[:16]


def quarantined(look: Reader, key: ObjectKey, item: Object) -> Quarantined | None:
    """Why an object is out of force in its present form; None where it is not."""
    row = look(QUARANTINE, key)
    return row if row is not None and row.fingerprint == fingerprint(item) else None
