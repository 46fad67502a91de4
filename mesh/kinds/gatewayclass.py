"""GatewayClass: which controller serves the Gateways that name it. Cluster-scoped."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mesh.kinds.fields import ControllerName
from mesh.kinds.meta import Object, Spec
from mesh.kinds.references import ParametersReference

# Ours: a GatewayClass with this controllerName belongs to Fairlead.
CONTROLLER_NAME = "fairlead.dev/gateway-controller"


class GatewayClassSpec(Spec, frozen=True, kw_only=True):
    """The controller, by its domain-prefixed name; immutable in Kubernetes."""

    controller_name: ControllerName
    description: Annotated[str, Meta(max_length=64)] | None = None
    parameters_ref: ParametersReference | None = None


class GatewayClass(Object, frozen=True, kw_only=True):
    """`gateway.networking.k8s.io/v1` GatewayClass."""

    api_version: Literal["gateway.networking.k8s.io/v1"]
    kind: Literal["GatewayClass"]
    spec: GatewayClassSpec
