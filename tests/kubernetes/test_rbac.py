"""Fairlead may do what it does, and nothing else: its permissions, held against the API server's audit log."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from mesh.kinds import KINDS
from mesh.statuses import KINDS_WITH_STATUS
from tests.support.audit import asked
from tests.support.certificates import Authority
from tests.support.helm import render
from tests.support.installed import Installed
from tests.support.kubernetes import JSON, Cluster, condition, eventually

pytestmark = [
    pytest.mark.skipif("KUBECONFIG" in os.environ, reason="only the local node's API server keeps an audit log for us"),
    pytest.mark.timeout(600),
]


def granted(kind: str) -> Iterator[tuple[str, str, str]]:
    """The rules of the chart's Role or ClusterRole, one by one: verb, group and resource."""
    for item in yaml.safe_load_all(render()):
        if item and item["kind"] == kind:
            for rule in item["rules"]:
                for group in rule["apiGroups"]:
                    for resource in rule["resources"]:
                        for verb in rule["verbs"]:
                            yield verb, group, resource


def scene(namespace: str, class_name: str) -> list[JSON]:
    """Objects that have Fairlead do all it does: certificates, parameters, routes, services of its own."""
    return list(
        yaml.safe_load_all(f"""
apiVersion: fairlead.dev/v1alpha1
kind: GatewayParameters
metadata: {{name: small, namespace: {namespace}}}
spec: {{replicas: 1, serviceType: ClusterIP}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge, namespace: {namespace}}}
spec:
  gatewayClassName: {class_name}
  infrastructure: {{parametersRef: {{group: fairlead.dev, kind: GatewayParameters, name: small}}}}
  listeners:
  - {{name: http, port: 80, protocol: HTTP}}
  - name: https
    port: 443
    protocol: HTTPS
    tls: {{certificateRefs: [{{name: site}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: reviews, namespace: {namespace}}}
spec:
  parentRefs: [{{name: edge}}]
  rules: [{{backendRefs: [{{group: fairlead.dev, kind: ServiceSubset, name: v1, port: 80}}]}}]
---
apiVersion: fairlead.dev/v1alpha1
kind: Service
metadata: {{name: reviews, namespace: {namespace}}}
spec:
  ports: [{{name: http, port: 80}}]
  endpoints: [{{address: 10.0.0.1, labels: {{version: v1}}}}]
---
apiVersion: fairlead.dev/v1alpha1
kind: ServiceSubset
metadata: {{name: v1, namespace: {namespace}}}
spec: {{service: reviews, labels: {{version: v1}}}}
---
apiVersion: fairlead.dev/v1alpha1
kind: ServiceSubset
metadata: {{name: v2, namespace: {namespace}}}
spec: {{service: reviews, labels: {{version: v1}}}}
---
apiVersion: fairlead.dev/v1alpha1
kind: Rollout
metadata: {{name: reviews, namespace: {namespace}}}
spec:
  targetRef: {{kind: HTTPRoute, name: reviews}}
  stable: {{group: fairlead.dev, kind: ServiceSubset, name: v1, port: 80}}
  canary: {{group: fairlead.dev, kind: ServiceSubset, name: v2, port: 80}}
  steps: [{{weight: 10, pause: 24h}}]
""")
    )


@pytest.fixture
def classes(cluster: Cluster, place: str) -> Iterator[tuple[str, str]]:
    """A GatewayClass of ours, and one of some other controller."""
    names = (f"{place}-ours", f"{place}-other")
    of = ("fairlead.dev/gateway-controller", "example.com/another")
    items: list[JSON] = [
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": name},
            "spec": {"controllerName": controller},
        }
        for name, controller in zip(names, of, strict=True)
    ]
    cluster.apply(*items)
    yield names
    for item in items:
        cluster.delete(item)


def test_fairlead_may_do_what_it_does_and_nothing_else(
    cluster: Cluster, place: str, fairlead: Installed, classes: tuple[str, str], tmp_path: Path
) -> None:
    ours, another = classes
    pair = Authority(tmp_path).server("site")
    data = {"tls.crt": pair.cert.read_text(), "tls.key": pair.key.read_text()}
    site = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "site", "namespace": place}}
    cluster.apply({**site, "type": "kubernetes.io/tls", "stringData": data}, *scene(place, ours))
    gateway = f"/apis/gateway.networking.k8s.io/v1/namespaces/{place}/gateways/edge"

    def programmed() -> bool:
        fact = condition(cluster.get(gateway), "Programmed")
        return fact is not None and fact["status"] == "True"

    eventually(programmed, "the Gateway to be programmed")
    fairlead.restart()  # its account's second start finds what the first one made
    # Fairlead removes the proxies of a Gateway that another controller takes over; those of one that is deleted go
    # along with it.
    other = {"spec": {"gatewayClassName": another}}
    cluster.request("PATCH", gateway, other, content_type="application/merge-patch+json")
    name = f"/apis/apps/v1/namespaces/{place}/deployments"
    eventually(lambda: not cluster.get(name)["items"], "the proxies to be gone")

    def granted_in_vain() -> set[tuple[str, str, str]]:
        used = {(one.verb, one.group, one.resource) for one in asked(since=fairlead.began)}
        # Server-side apply of what is not there yet asks for both permissions and shows as one of them.
        used |= {("create", group, resource) for verb, group, resource in used if verb == "patch"}
        return {*granted("ClusterRole"), *granted("Role")} - used - _RARE

    # The last of the proxies' parts may be still to go, and the last status to be told.
    with contextlib.suppress(AssertionError):
        eventually(lambda: not granted_in_vain(), "everything to be used", every=1.0)
    assert granted_in_vain() == set(), "the chart grants what Fairlead never does"
    log = asked(since=fairlead.began)
    refused = {(one.verb, one.group, one.resource, one.namespace) for one in log if one.code == 403}
    assert refused == set(), "Fairlead asks for what its chart does not grant"


_TOLD = [KINDS[name] for name in sorted(KINDS_WITH_STATUS)]
_SCENE = {item["kind"] for item in scene("", "")} | {"GatewayClass"}
# What this scene does not bring about, and what does.
_RARE = {
    # A status whose object changed at the same time is read again: tests/kubernetes/test_status.py.
    *(("get", kind.group, kind.plural) for kind in _TOLD),
    # Kinds that are not in the scene are told by the same code: test_chart.py sees that all may be.
    *(("patch", kind.group, f"{kind.plural}/status") for kind in _TOLD if kind.name not in _SCENE),
    # Only who watches all namespaces knows whether a class is used: tests/kubernetes/test_class_finalizer.py.
    ("patch", "gateway.networking.k8s.io", "gatewayclasses"),
    # A new authority takes the place of the old one after months.
    ("update", "", "secrets"),
}
