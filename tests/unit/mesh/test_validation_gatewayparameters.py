"""GatewayParameters."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.validation import validate
from mesh.validations.gatewayparameters import amount


def parameters(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "fairlead.dev/v1alpha1", "kind": "GatewayParameters", "metadata": {"name": "x"}, "spec": spec}


def codes(raw: Any) -> list[str]:
    return [f"{problem.code} {problem.path}" for problem in validate(raw).problems]


def test_parameters_that_use_everything_are_good() -> None:
    spec = {
        "replicas": 3,
        "minAvailable": 2,
        "drainSeconds": 20,
        "envoyImage": "registry.example.com:5000/envoyproxy/envoy:v1.40.0@sha256:0a",
        "logLevel": "debug",
        "resources": {"requests": {"cpu": "500m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "edge", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}],
        "podAnnotations": {"a.io/b": "c"},
        "serviceType": "LoadBalancer",
        "loadBalancerClass": "example.com/internal",
        "externalTrafficPolicy": "Local",
        "serviceAnnotations": {"a.io/b": "c"},
    }
    assert codes(parameters(**spec)) == []


def test_parameters_need_no_spec() -> None:
    raw = parameters()
    del raw["spec"]
    assert codes(raw) == []


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"replicas": -1}, "OutOfRange spec.replicas"),
        ({"replicas": 1, "minAvailable": 2}, "OutOfRange spec.minAvailable"),
        ({"envoyImage": "an image"}, "InvalidFormat spec.envoyImage"),
        ({"envoyImage": "a\nb"}, "InvalidFormat spec.envoyImage"),
        ({"logLevel": "loud"}, "UnknownValue spec.logLevel"),
        ({"serviceType": "ExternalName"}, "UnknownValue spec.serviceType"),
        ({"resources": {"requests": {"cpu": "lots"}}}, "InvalidFormat spec.resources.requests.cpu"),
        (
            {"resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "1000M"}}},
            "OutOfRange spec.resources.requests.memory",
        ),
        ({"nodeSelector": {"a b": "c"}}, "InvalidFormat spec.nodeSelector.a b"),
        ({"tolerations": [{"value": "x"}]}, "MissingField spec.tolerations[0].key"),
        ({"tolerations": [{"key": "a", "operator": "Exists", "value": "x"}]}, "NotAllowed spec.tolerations[0].value"),
        ({"tolerations": [{"key": "a", "tolerationSeconds": 1}]}, "NotAllowed spec.tolerations[0].tolerationSeconds"),
        ({"serviceType": "ClusterIP", "loadBalancerClass": "a.io/b"}, "NotAllowed spec.loadBalancerClass"),
        ({"serviceType": "ClusterIP", "externalTrafficPolicy": "Local"}, "NotAllowed spec.externalTrafficPolicy"),
    ],
)
def test_what_kubernetes_would_refuse_is_refused(spec: dict[str, Any], code: str) -> None:
    [found] = codes(parameters(**spec))
    assert found.replace('"', "").replace("[a b]", ".a b") == code


@pytest.mark.parametrize(
    ("less", "more"), [("500m", "1"), ("1M", "1Mi"), ("999k", "1M"), ("1023Ki", "1Mi"), ("1Gi", "1.1Gi")]
)
def test_amounts_are_compared_by_what_they_mean(less: str, more: str) -> None:
    assert amount(less) < amount(more)
