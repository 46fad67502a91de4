"""GatewayParameters of `fairlead.dev/v1alpha1`: how the proxies of a Gateway are run where Kubernetes runs them.

A Gateway names one of its own namespace (`spec.infrastructure.parametersRef`), a GatewayClass one of any. A field that
the Gateway's leaves out is the class's, then the default. Nothing here changes what the proxies do with requests.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from mesh.kinds.fields import END, SUBDOMAIN, AnnotationValue, LabelValue
from mesh.kinds.meta import Object, Spec

ServiceType = Literal["LoadBalancer", "ClusterIP", "NodePort"]
EnvoyLogLevel = Literal["trace", "debug", "info", "warning", "error", "critical"]

Quantity = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=32,
        pattern=rf"^[0-9]{{1,15}}(\.[0-9]{{1,9}})?(m|k|Ki|M|Mi|G|Gi|T|Ti)?{END}",
        description="an amount as Kubernetes writes it, in quotes where it is a plain number",
        examples=["500m", "256Mi"],
    ),
]
ResourceNameKey = Annotated[
    str,
    Meta(
        max_length=253,
        pattern=rf"^({SUBDOMAIN}/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?{END}",
        description="the name of a resource",
        examples=["memory"],
    ),
]
Quantities = Annotated[dict[ResourceNameKey, Quantity], Meta(max_length=16)]


class Resources(Spec, frozen=True, kw_only=True):
    """What a pod asks for and may use at most. A limit of `cpu` also bounds Envoy's worker threads."""

    requests: Quantities | None = None
    limits: Quantities | None = None


class Toleration(Spec, frozen=True, kw_only=True):
    """A taint of nodes that the pods put up with."""

    key: Annotated[str, Meta(max_length=316)] = ""
    operator: Literal["Equal", "Exists"] = "Equal"
    value: LabelValue = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: Annotated[int, Meta(ge=0)] | None = None


class GatewayParametersSpec(Spec, frozen=True, kw_only=True):
    """All fields may be left out."""

    replicas: Annotated[int, Meta(ge=0, le=1000)] | None = None
    min_available: Annotated[int, Meta(ge=0, le=1000)] | None = None
    drain_seconds: Annotated[int, Meta(ge=0, le=3600)] | None = None
    envoy_image: Annotated[str, Meta(min_length=1, max_length=512)] | None = None
    log_level: EnvoyLogLevel | None = None
    report_times: bool | None = None
    resources: Resources | None = None
    node_selector: Annotated[dict[str, LabelValue], Meta(max_length=32)] | None = None
    tolerations: Annotated[tuple[Toleration, ...], Meta(max_length=32)] | None = None
    pod_annotations: Annotated[dict[str, AnnotationValue], Meta(max_length=32)] | None = None
    service_type: ServiceType | None = None
    load_balancer_class: Annotated[str, Meta(min_length=1, max_length=316)] | None = None
    external_traffic_policy: Literal["Cluster", "Local"] | None = None
    service_annotations: Annotated[dict[str, AnnotationValue], Meta(max_length=32)] | None = None


class GatewayParameters(Object, frozen=True, kw_only=True):
    """`fairlead.dev/v1alpha1` GatewayParameters; a Gateway or a GatewayClass names it."""

    api_version: Literal["fairlead.dev/v1alpha1"]
    kind: Literal["GatewayParameters"]
    spec: GatewayParametersSpec = field(default_factory=GatewayParametersSpec)
