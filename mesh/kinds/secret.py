"""Secret of Kubernetes' core group: here, certificates for listeners."""

from __future__ import annotations

from typing import Literal

from msgspec import field

from mesh.kinds.meta import Object

TLS_TYPE = "kubernetes.io/tls"


class Secret(Object, frozen=True, kw_only=True):
    """`v1` Secret. `data` is base64, `string_data` plain and wins where both have a key, as in Kubernetes."""

    api_version: Literal["v1"]
    kind: Literal["Secret"]
    type: str = "Opaque"
    data: dict[str, str] = field(default_factory=dict)
    string_data: dict[str, str] = field(default_factory=dict)
    immutable: bool | None = None

    def __repr__(self) -> str:
        """Keep the keys out of logs and tracebacks."""
        return f"Secret({self.metadata.namespace}/{self.metadata.name}, type={self.type!r}, data=[redacted])"
