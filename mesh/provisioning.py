"""Gateways whose proxies a platform runs: what they are called there, how they are to be run, what is told of them.

A Gateway that a Kubernetes source declares is run in pods of its own (`discovery/kubernetes/provision.py`). Its
`spec.addresses` are then requests to the platform, not addresses to bind, and whether it is programmed follows from
what the platform says. Gateways from files and REST are run by whoever starts an Envoy for them.
"""

from __future__ import annotations

import hashlib
import re

import msgspec

from mesh.conditions import Condition
from mesh.kinds.gateway import Gateway
from mesh.kinds.gatewayclass import GatewayClass
from mesh.kinds.gatewayparameters import GatewayParameters, GatewayParametersSpec
from mesh.kinds.references import FAIRLEAD, LocalObjectReference, ParametersReference
from mesh.model import ObjectKey, Provisioned
from mesh.objects import find
from mesh.tables import Reader

PLATFORM_PREFIX = "kubernetes:"
READY_PORT = 15021
PROXY_PORTS = frozenset({READY_PORT})
"""What the proxies listen on themselves where a platform runs them: no listener of a Gateway can have these."""
MAX_NAME = 63
_DIGEST = 10
# A Service's name is a label of RFC 1035: no dots, and a letter first.
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def resource_name(gateway: str, class_name: str) -> str:
    """The name of everything that is made for a Gateway, and of the service account that its proxies run as.

    `<gateway>-<class>` where that can name a Service; else as much of it as fits, and a hash of both names.
    """
    plain = f"{gateway}-{class_name}"
    if len(plain) <= MAX_NAME and _NAME.fullmatch(plain):
        return plain
    stem = re.sub(r"[^a-z0-9]+", "-", plain.lower())
    if not stem[0].isalpha():
        stem = f"gateway-{stem}"
    return f"{stem[: MAX_NAME - _DIGEST - 1].rstrip('-')}-{_digest(f'{gateway}/{class_name}')}"


def label_value(name: str) -> str:
    """A name as the value of a label: itself, or where it is too long its beginning and a hash."""
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME - _DIGEST - 1].rstrip('-._')}-{_digest(name)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]


def parameters_problem(look: Reader, ref: LocalObjectReference | ParametersReference, namespace: str) -> str:
    """What is wrong with a reference to parameters in a namespace; empty where it leads to some."""
    if (ref.group, ref.kind) != (FAIRLEAD, "GatewayParameters"):
        return (
            f"parametersRef names {ref.kind} {ref.name} of group {ref.group!r}; "
            f"name a GatewayParameters of group {FAIRLEAD}, or remove it."
        )
    if not namespace:
        return f"parametersRef names GatewayParameters {ref.name} without a namespace; add `namespace`."
    if find(look, GatewayParameters, ObjectKey("GatewayParameters", namespace, ref.name)) is None:
        return f"parametersRef names GatewayParameters {namespace}/{ref.name}, which does not exist; create it."
    return ""


def class_parameters_problem(look: Reader, found: GatewayClass) -> str:
    """What is wrong with the parameters of a class; empty where all is well."""
    ref = found.spec.parameters_ref
    return parameters_problem(look, ref, ref.namespace or "") if ref is not None else ""


def parameters(look: Reader, gateway: Gateway) -> GatewayParametersSpec:
    """How the proxies of a Gateway are to be run: field by field its own parameters, then those of its class.

    References that lead nowhere count as none: their problem is told elsewhere.
    """
    merged = GatewayParametersSpec()
    found = find(look, GatewayClass, ObjectKey("GatewayClass", "", gateway.spec.gateway_class_name))
    if found is not None and (ref := found.spec.parameters_ref) is not None:
        merged = _over(_spec(look, ref, ref.namespace or ""), merged)
    infrastructure = gateway.spec.infrastructure
    if infrastructure is not None and infrastructure.parameters_ref is not None:
        merged = _over(_spec(look, infrastructure.parameters_ref, gateway.metadata.namespace), merged)
    return merged


def _spec(look: Reader, ref: LocalObjectReference | ParametersReference, namespace: str) -> GatewayParametersSpec:
    if (ref.group, ref.kind) != (FAIRLEAD, "GatewayParameters"):
        return GatewayParametersSpec()
    found = find(look, GatewayParameters, ObjectKey("GatewayParameters", namespace, ref.name))
    return found.spec if found is not None else GatewayParametersSpec()


def _over(own: GatewayParametersSpec, defaults: GatewayParametersSpec) -> GatewayParametersSpec:
    said = {name: value for name in own.__struct_fields__ if (value := getattr(own, name)) is not None}
    return msgspec.structs.replace(defaults, **said)


def programmed(row: Provisioned | None, requested: tuple[str, ...]) -> Condition:
    """Whether a Gateway with listeners to serve is served where a platform runs its proxies."""

    def no(reason: str, message: str) -> Condition:
        return Condition("Programmed", False, reason, message)

    if row is None:
        return no("Pending", "Its proxies are being set up.")
    if row.problem:
        return no(row.reason, row.problem)
    missing = [address for address in requested if address not in row.addresses]
    if missing and row.addresses:
        said = f"{', '.join(missing)} cannot be had; the address is {', '.join(row.addresses)}. Mend spec.addresses."
        return no("AddressNotUsable", said)
    if not row.addresses:
        return no("AddressNotAssigned", "No address is assigned yet.")
    if not row.ready:
        return no("Pending", "No proxy is ready yet.")
    return Condition("Programmed", True, "Programmed")
