"""GatewayParameters: what Kubernetes would refuse of what is made from them, said before it does."""

from __future__ import annotations

import re
from decimal import Decimal

from mesh.kinds.gatewayparameters import GatewayParameters, Resources, Toleration
from mesh.problems import Report, camel, child, shown
from mesh.validations.metadata import check_keys

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")
_QUANTITY = re.compile(r"([0-9.]+)([A-Za-z]*)")
_UNITS = {"": Decimal(1), "m": Decimal("0.001"), "k": Decimal(1000), "Ki": Decimal(1024)} | {
    f"{letter}{i}": Decimal((1024 if i else 1000) ** power)
    for power, letter in ((2, "M"), (3, "G"), (4, "T"))
    for i in ("", "i")
}


def check_gatewayparameters(parameters: GatewayParameters, report: Report) -> None:
    """Judge GatewayParameters."""
    spec = parameters.spec
    if spec.envoy_image is not None and not _IMAGE.fullmatch(spec.envoy_image):
        message = f"'{shown(spec.envoy_image)}' is not the name of an image"
        report.error("InvalidFormat", "spec.envoyImage", message, "write it as in `envoyproxy/envoy:v1.40.0`")
    if None not in (spec.min_available, spec.replicas) and (spec.min_available or 0) > (spec.replicas or 0):
        message = f"{spec.min_available} of {spec.replicas} replicas can never be available"
        report.error("OutOfRange", "spec.minAvailable", message, "ask for at most as many as there are `replicas`")
    if spec.resources is not None:
        _check_resources(spec.resources, report)
    for name in ("node_selector", "pod_annotations", "service_annotations"):
        keys = getattr(spec, name)
        if keys:
            check_keys(keys, f"spec.{camel(name)}", report)
    for number, toleration in enumerate(spec.tolerations or ()):
        _check_toleration(toleration, f"spec.tolerations[{number}]", report)
    _check_service_fields(parameters, report)


def _check_service_fields(parameters: GatewayParameters, report: Report) -> None:
    spec = parameters.spec
    if spec.load_balancer_class is not None:
        check_keys((spec.load_balancer_class,), "spec.loadBalancerClass", report)
        if spec.service_type in ("ClusterIP", "NodePort"):
            message = f"a Service of type {spec.service_type} has no load balancer"
            fix = "remove it, or write `serviceType: LoadBalancer`"
            report.error("NotAllowed", "spec.loadBalancerClass", message, fix)
    if spec.external_traffic_policy is not None and spec.service_type == "ClusterIP":
        message = "a Service of type ClusterIP has no external traffic"
        fix = "remove it, or write another `serviceType`"
        report.error("NotAllowed", "spec.externalTrafficPolicy", message, fix)


def _check_resources(resources: Resources, report: Report) -> None:
    limits = resources.limits or {}
    for name, asked in (resources.requests or {}).items():
        limit = limits.get(name)
        if limit is not None and amount(asked) > amount(limit):
            message = f"the request of {asked} is more than the limit of {limit}"
            report.error("OutOfRange", child("spec.resources.requests", name), message, "ask for less, or allow more")


def _check_toleration(toleration: Toleration, path: str, report: Report) -> None:
    if toleration.key:
        check_keys((toleration.key,), f"{path}.key", report)
    elif toleration.operator != "Exists":
        message = "a toleration without a key tolerates everything, and must say so"
        report.error("MissingField", f"{path}.key", message, "write a `key`, or `operator: Exists`")
    if toleration.operator == "Exists" and toleration.value:
        report.error("NotAllowed", f"{path}.value", "Exists takes no value", "remove `value`")
    if toleration.toleration_seconds is not None and toleration.effect != "NoExecute":
        fix = "remove it, or write `effect: NoExecute`"
        report.error("NotAllowed", f"{path}.tolerationSeconds", "only NoExecute evicts pods after a time", fix)


def amount(quantity: str) -> Decimal:
    """The number that a quantity means."""
    found = _QUANTITY.fullmatch(quantity)
    assert found is not None, "judged by its type before"
    return Decimal(found[1]) * _UNITS[found[2]]
