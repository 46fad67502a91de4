"""What TLSRoute, TCPRoute and UDPRoute have in common: one rule, which only names backends with their weights."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from mesh.kinds.fields import SectionName, Weight
from mesh.kinds.meta import Spec
from mesh.kinds.references import BackendObjectReference


class BackendRef(BackendObjectReference, frozen=True, kw_only=True):
    """A backend and its share of the connections."""

    weight: Weight = 1


class StreamRule(Spec, frozen=True, kw_only=True):
    """The backends among which connections are shared."""

    name: SectionName | None = None
    backend_refs: Annotated[tuple[BackendRef, ...], Meta(min_length=1, max_length=16)]


StreamRules = Annotated[tuple[StreamRule, ...], Meta(min_length=1, max_length=1)]
