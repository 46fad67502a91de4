"""EnvoyPatch of `fairlead.dev/v1alpha1`: what no other kind has a field for, written into Envoy's own configuration.

It is a JSON patch (RFC 6902) on what Envoy gets for its targets: the listeners of a Gateway (or the one behind a
listener's name), the routes of an HTTPRoute or GRPCRoute (or of a named rule), the clusters of a Service (or of one
port) or of a Backend. `resource` asks for others of what they have, since a path fits one sort alone. A server applies
it only where it was started with `envoy_patches`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, field

from mesh.kinds.meta import Object, Spec
from mesh.kinds.policy import TargetRefs

PatchedResource = Literal["Listener", "UDPListener", "HTTP3Listener", "VirtualHost", "Route", "Cluster"]
RESOURCES: Final[Mapping[str, tuple[PatchedResource, ...]]] = MappingProxyType(
    {
        "Gateway": ("Listener", "UDPListener", "HTTP3Listener", "VirtualHost"),
        "HTTPRoute": ("Route",),
        "GRPCRoute": ("Route",),
        "Service": ("Cluster", "Listener"),
        "Backend": ("Cluster",),
    }
)
"""What can be patched of each kind of target; the first is what is meant where nothing is said."""

Pointer = Annotated[
    str,
    Meta(
        pattern=r"^(/([^~/]|~0|~1)*)+$(?!\n)",
        max_length=1024,
        description="a path in the resource (RFC 6901)",
        examples=["/connect_timeout"],
    ),
]


class PatchOperation(Spec, frozen=True, kw_only=True):
    """One operation of RFC 6902, on the resource as `fairlead translate` shows it.

    `value` is for `add`, `replace` and `test`, `from` for `move` and `copy`.
    """

    op: Literal["add", "remove", "replace", "move", "copy", "test"]
    path: Pointer
    from_: Pointer | None = field(default=None, name="from")
    value: Any = None


class EnvoyPatchSpec(Spec, frozen=True, kw_only=True):
    """What is patched, and how: all operations, in their order, or none of them.

    `resource_name`: only the one of that name, as `fairlead translate` shows it.
    """

    target_refs: TargetRefs
    resource: PatchedResource | None = None
    resource_name: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    patch: Annotated[tuple[PatchOperation, ...], Meta(min_length=1, max_length=64)]


class EnvoyPatch(Object, frozen=True, kw_only=True):
    """`fairlead.dev/v1alpha1` EnvoyPatch."""

    api_version: Literal["fairlead.dev/v1alpha1"]
    kind: Literal["EnvoyPatch"]
    spec: EnvoyPatchSpec
