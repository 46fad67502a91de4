"""What every object has: group and version, kind, and metadata (Kubernetes' `ObjectMeta`, as far as we use it)."""

from __future__ import annotations

from typing import Any

import msgspec

from mesh.kinds.fields import LabelValue, ResourceName

JSON = dict[str, Any]


class Spec(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """Base of everything a user writes: camelCase names, and an unknown field is an error."""


class ObjectMeta(Spec, frozen=True, kw_only=True):
    """Names and bookkeeping. `creation_timestamp` is RFC 3339; None counts as youngest when age decides."""

    name: ResourceName
    namespace: str = ""
    labels: dict[str, LabelValue] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: str | None = None
    generation: int = 0
    resource_version: str = ""
    uid: str = ""


class Object(Spec, frozen=True, kw_only=True):
    """Base of all kinds; a subclass fixes `api_version` and `kind` to its own (as Literals) and adds `spec`."""

    api_version: str
    kind: str
    metadata: ObjectMeta
