"""What all policies share: which objects they are for, and how a field that nobody set looks.

A policy says with `targetRefs` what it is for. Its fields are *defaults*: a policy for something narrower wins, field
by field. Those under `overrides` are the other way round: nothing narrower changes them (Gateway API's GEP-2649 on
inherited policies). Which one counts is decided in `mesh/policies.py`, for all kinds alike.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from mesh.kinds.fields import Group, KindName, ObjectName
from mesh.kinds.meta import Spec

Percent = Annotated[int, Meta(ge=0, le=100)]
SectionOf = Annotated[
    str,
    Meta(min_length=1, max_length=253, description="a part of the target: a port's name or number, a listener, a rule"),
]


class PolicyTargetReference(Spec, frozen=True, kw_only=True):
    """An object of the policy's own namespace, or a part of one.

    `sectionName` is the name or number of a Service's port, the name of a Gateway's listener or of a route's rule.
    """

    group: Group = ""
    kind: KindName
    name: ObjectName
    section_name: SectionOf | None = None


TargetRefs = Annotated[tuple[PolicyTargetReference, ...], Meta(min_length=1, max_length=16)]


class Atomic(Spec, frozen=True, kw_only=True):
    """Base of what a policy sets as a whole: two policies never mix their fields within it."""
