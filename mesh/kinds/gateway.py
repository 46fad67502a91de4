"""Gateway: where traffic comes in, as listeners that routes attach to."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from mesh.kinds.fields import (
    AnnotationValue,
    Group,
    Hostname,
    KindName,
    LabelValue,
    ObjectName,
    PortNumber,
    SectionName,
)
from mesh.kinds.meta import Object, Spec
from mesh.kinds.references import GATEWAY_API, LocalObjectReference, ObjectReference, SecretObjectReference
from mesh.kinds.selectors import LabelSelector


class RouteGroupKind(Spec, frozen=True, kw_only=True):
    """A kind of route that a listener takes."""

    group: Group = GATEWAY_API
    kind: KindName


class RouteNamespaces(Spec, frozen=True, kw_only=True):
    """The namespaces whose routes may attach; `selector` belongs to `from: Selector`."""

    from_: Literal["All", "Selector", "Same"] = field(default="Same", name="from")
    selector: LabelSelector | None = None


class AllowedRoutes(Spec, frozen=True, kw_only=True):
    """Which routes may attach to a listener; no kinds means those that its protocol carries."""

    namespaces: RouteNamespaces = RouteNamespaces()
    kinds: Annotated[tuple[RouteGroupKind, ...], Meta(max_length=8)] = ()


class GatewayTLSConfig(Spec, frozen=True, kw_only=True):
    """TLS of one listener (`listeners[].tls`)."""

    mode: Literal["Terminate", "Passthrough"] = "Terminate"
    certificate_refs: Annotated[tuple[SecretObjectReference, ...], Meta(max_length=64)] = ()
    options: Annotated[dict[str, AnnotationValue], Meta(max_length=16)] = field(default_factory=dict)


class Listener(Spec, frozen=True, kw_only=True):
    """A port, a protocol and perhaps a hostname. An absent hostname takes every host.

    `protocol` is open by specification (domain-prefixed names are allowed); what we do not serve gets the condition
    `Accepted=False`, reason `UnsupportedProtocol`.
    """

    name: SectionName
    hostname: Hostname | None = None
    port: PortNumber
    protocol: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=255,
            pattern=r"^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$(?!\n)"
            r"|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9]+$(?!\n)",
            description="a protocol",
            examples=["HTTP"],
        ),
    ]
    tls: GatewayTLSConfig | None = None
    allowed_routes: AllowedRoutes = AllowedRoutes()


class GatewaySpecAddress(Spec, frozen=True, kw_only=True):
    """An address to bind. An absent value of type IPAddress asks for one to be assigned."""

    type: Annotated[str, Meta(min_length=1, max_length=253)] = "IPAddress"
    value: Annotated[str, Meta(max_length=253)] = ""


class GatewayInfrastructure(Spec, frozen=True, kw_only=True):
    """Labels, annotations and parameters for what is made to run the Gateway."""

    labels: Annotated[dict[str, LabelValue], Meta(max_length=8)] = field(default_factory=dict)
    annotations: Annotated[dict[str, AnnotationValue], Meta(max_length=16)] = field(default_factory=dict)
    parameters_ref: LocalObjectReference | None = None


class ListenerNamespaces(Spec, frozen=True, kw_only=True):
    """The namespaces whose ListenerSets may attach."""

    from_: Literal["All", "Selector", "Same", "None"] = field(default="None", name="from")
    selector: LabelSelector | None = None


class AllowedListeners(Spec, frozen=True, kw_only=True):
    """Which ListenerSets may attach to a Gateway; none by default."""

    namespaces: ListenerNamespaces = ListenerNamespaces()


class FrontendTLSValidation(Spec, frozen=True, kw_only=True):
    """How client certificates are judged."""

    ca_certificate_refs: Annotated[tuple[ObjectReference, ...], Meta(min_length=1, max_length=16)]
    mode: Literal["AllowValidOnly", "AllowInsecureFallback"] = "AllowValidOnly"


class TLSConfig(Spec, frozen=True, kw_only=True):
    """Client certificate validation of a port."""

    validation: FrontendTLSValidation | None = None


class TLSPortConfig(Spec, frozen=True, kw_only=True):
    """Client certificate validation of one port, instead of the default's."""

    port: PortNumber
    tls: TLSConfig


class FrontendTLSConfig(Spec, frozen=True, kw_only=True):
    """Towards clients."""

    default: TLSConfig
    per_port: Annotated[tuple[TLSPortConfig, ...], Meta(max_length=64)] = ()


class GatewayBackendTLS(Spec, frozen=True, kw_only=True):
    """Towards backends: the certificate that the Gateway presents."""

    client_certificate_ref: SecretObjectReference | None = None


class GatewayTLS(Spec, frozen=True, kw_only=True):
    """TLS of the whole Gateway (`spec.tls`)."""

    backend: GatewayBackendTLS | None = None
    frontend: FrontendTLSConfig | None = None


class GatewaySpec(Spec, frozen=True, kw_only=True):
    """Listeners, and the class that says who serves them."""

    gateway_class_name: ObjectName
    listeners: Annotated[tuple[Listener, ...], Meta(min_length=1, max_length=64)]
    addresses: Annotated[tuple[GatewaySpecAddress, ...], Meta(max_length=16)] = ()
    infrastructure: GatewayInfrastructure | None = None
    allowed_listeners: AllowedListeners | None = None
    tls: GatewayTLS | None = None


class Gateway(Object, frozen=True, kw_only=True):
    """`gateway.networking.k8s.io/v1` Gateway."""

    api_version: Literal["gateway.networking.k8s.io/v1"]
    kind: Literal["Gateway"]
    spec: GatewaySpec
