"""ServiceSubset of `fairlead.dev/v1alpha1`: those endpoints of a Service that carry certain labels."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mesh.kinds.fields import LabelValue, ObjectName
from mesh.kinds.meta import Object, Spec


class ServiceSubsetSpec(Spec, frozen=True, kw_only=True):
    """The Service, in this namespace, and the labels that all endpoints of the subset carry."""

    service: ObjectName
    labels: Annotated[dict[str, LabelValue], Meta(min_length=1, max_length=16)]


class ServiceSubset(Object, frozen=True, kw_only=True):
    """`fairlead.dev/v1alpha1` ServiceSubset; a backendRef may name one."""

    api_version: Literal["fairlead.dev/v1alpha1"]
    kind: Literal["ServiceSubset"]
    spec: ServiceSubsetSpec
