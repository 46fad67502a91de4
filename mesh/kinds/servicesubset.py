"""ServiceSubset of `fairlead.dev/v1alpha1`: those endpoints of a Service that carry certain labels."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mesh.kinds.fields import LabelValue, ObjectName
from mesh.kinds.meta import Object, Spec

SubsetLabels = Annotated[dict[str, LabelValue], Meta(min_length=1, max_length=16)]


class SubsetFallback(Spec, frozen=True, kw_only=True):
    """The labels of endpoints that take over."""

    labels: SubsetLabels


class ServiceSubsetSpec(Spec, frozen=True, kw_only=True):
    """The Service, in this namespace, and the labels that all endpoints of the subset carry.

    `fallback`: where there is no healthy one, those of its first entry take over, then those of the next.
    """

    service: ObjectName
    labels: SubsetLabels
    fallback: Annotated[tuple[SubsetFallback, ...], Meta(max_length=8)] = ()


class ServiceSubset(Object, frozen=True, kw_only=True):
    """`fairlead.dev/v1alpha1` ServiceSubset; a backendRef may name one."""

    api_version: Literal["fairlead.dev/v1alpha1"]
    kind: Literal["ServiceSubset"]
    spec: ServiceSubsetSpec
