"""Service of `fairlead.dev/v1alpha1`: a service and its endpoints, told without any platform."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from mesh.kinds.fields import END, LABEL, LabelValue, PortNumber
from mesh.kinds.meta import Object, Spec

ServiceProtocol = Literal["HTTP", "HTTP2", "GRPC", "TCP", "TLS", "UDP"]
EndpointHealth = Literal["Healthy", "Degraded", "Draining", "Unhealthy", "Unknown"]

PortName = Annotated[
    str,
    Meta(
        max_length=63,
        pattern=rf"^({LABEL})?{END}",
        description="a port's name: lower-case letters, digits and '-'",
        examples=["http"],
    ),
]
ExportTo = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=63,
        pattern=rf"^\*{END}|^\.{END}|^{LABEL}{END}",
        description="a namespace, '.' (its own) or '*' (all)",
        examples=["*"],
    ),
]
LocalityName = Annotated[str, Meta(max_length=253)]


class ServicePort(Spec, frozen=True, kw_only=True):
    """A port that clients name. Endpoints say under this name at which number they serve it."""

    name: PortName = ""
    port: PortNumber
    protocol: ServiceProtocol = "HTTP"


class ServiceEndpoint(Spec, frozen=True, kw_only=True):
    """One instance. A port that `ports` leaves out is served at the service port's own number.

    `for_zones`: the zones whose clients it is meant for first. `weight` is a share within its locality; `priority` 0
    gets traffic first, higher ones when lower ones are unhealthy.
    """

    address: Annotated[str, Meta(min_length=1, max_length=45)]
    ports: dict[str, PortNumber] = field(default_factory=dict)
    labels: dict[str, LabelValue] = field(default_factory=dict)
    weight: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    region: LocalityName = ""
    zone: LocalityName = ""
    sub_zone: LocalityName = ""
    health: EndpointHealth = "Unknown"
    priority: Annotated[int, Meta(ge=0, le=127)] = 0
    service_account: Annotated[str, Meta(max_length=253)] = ""
    mesh_tls: bool = False
    for_zones: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=253)], ...], Meta(max_length=8)] = ()


class ServiceSpec(Spec, frozen=True, kw_only=True):
    """Ports and endpoints. `export_to`: namespaces that may see it, `*` for all, `.` for its own."""

    ports: Annotated[tuple[ServicePort, ...], Meta(min_length=1, max_length=100)]
    endpoints: Annotated[tuple[ServiceEndpoint, ...], Meta(max_length=10_000)] = ()
    export_to: Annotated[tuple[ExportTo, ...], Meta(max_length=1_000)] = ()


class Service(Object, frozen=True, kw_only=True):
    """`fairlead.dev/v1alpha1` Service; its labels are those of its metadata."""

    api_version: Literal["fairlead.dev/v1alpha1"]
    kind: Literal["Service"]
    spec: ServiceSpec
