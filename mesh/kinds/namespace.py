"""Namespace of Kubernetes' core group: here, labels for `allowedRoutes.namespaces.selector`. Cluster-scoped."""

from __future__ import annotations

from typing import Literal

from msgspec import field

from mesh.kinds.meta import JSON, Object


class Namespace(Object, frozen=True, kw_only=True):
    """`v1` Namespace; its spec (finalizers) means nothing here."""

    api_version: Literal["v1"]
    kind: Literal["Namespace"]
    spec: JSON = field(default_factory=dict)
