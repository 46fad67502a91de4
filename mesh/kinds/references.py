"""References from one object to another, as Gateway API's `object_reference_types.go` and `shared_types.go` have them.

An absent namespace means the namespace of the object that refers.
"""

from __future__ import annotations

from mesh.kinds.fields import Group, KindName, Namespace, ObjectName, PortNumber, SectionName
from mesh.kinds.meta import Spec

GATEWAY_API = "gateway.networking.k8s.io"
FAIRLEAD = "fairlead.dev"


class LocalObjectReference(Spec, frozen=True, kw_only=True):
    """An object in the namespace of the referrer."""

    group: Group
    kind: KindName
    name: ObjectName


class ParametersReference(Spec, frozen=True, kw_only=True):
    """Parameters of a GatewayClass; `namespace` only for a namespaced kind."""

    group: Group
    kind: KindName
    name: ObjectName
    namespace: Namespace | None = None


class ObjectReference(Spec, frozen=True, kw_only=True):
    """An object of any kind, here CA certificates for client validation."""

    group: Group
    kind: KindName
    name: ObjectName
    namespace: Namespace | None = None


class SecretObjectReference(Spec, frozen=True, kw_only=True):
    """A certificate: a core Secret unless `group` and `kind` say otherwise."""

    group: Group = ""
    kind: KindName = "Secret"
    name: ObjectName
    namespace: Namespace | None = None


class BackendObjectReference(Spec, frozen=True, kw_only=True):
    """A backend: an empty group means the merged Service of that name; `fairlead.dev` only what our own objects say."""

    group: Group = ""
    kind: KindName = "Service"
    name: ObjectName
    namespace: Namespace | None = None
    port: PortNumber | None = None


class ParentReference(Spec, frozen=True, kw_only=True):
    """What a route attaches to: a Gateway (or one listener of it, by name or port) or a Service."""

    group: Group = GATEWAY_API
    kind: KindName = "Gateway"
    name: ObjectName
    namespace: Namespace | None = None
    section_name: SectionName | None = None
    port: PortNumber | None = None
