"""ConfigMap of Kubernetes' core group: here, certificates of authorities that clients' certificates are judged by."""

from __future__ import annotations

from typing import Literal

from msgspec import field

from mesh.kinds.meta import Object


class ConfigMap(Object, frozen=True, kw_only=True):
    """`v1` ConfigMap. `data` is text, `binary_data` base64."""

    api_version: Literal["v1"]
    kind: Literal["ConfigMap"]
    data: dict[str, str] = field(default_factory=dict)
    binary_data: dict[str, str] = field(default_factory=dict)
    immutable: bool | None = None
