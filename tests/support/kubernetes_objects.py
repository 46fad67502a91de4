"""Kubernetes objects as its API server writes them, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

import msgspec

from discovery.kubernetes.wire import EndpointSlice, Node, Pod, Service

JSON = dict[str, Any]


def metadata(name: str, namespace: str = "default", **more: Any) -> JSON:
    """Metadata with what the API server adds."""
    about = {"name": name, "uid": f"uid-{name}", "resourceVersion": "7", "managedFields": [{"manager": "kubectl"}]}
    return {**about, **({"namespace": namespace} if namespace else {}), **more}


def service(
    name: str = "reviews",
    *ports: JSON,
    namespace: str = "default",
    labels: JSON | None = None,
    export_to: str | None = None,
    **spec: Any,
) -> Service:
    """A Service; without ports it has port 80."""
    annotations = {"fairlead.dev/export-to": export_to} if export_to is not None else None
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(name, namespace, labels=labels, annotations=annotations),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "10.96.0.10",
            "ipFamilies": ["IPv4"],
            "ports": list(ports) or [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}],
            **spec,
        },
        "status": {"loadBalancer": {}},
    }
    return msgspec.convert(body, Service)


def endpoint(
    address: str,
    *,
    pod: str = "",
    node: str | None = None,
    zone: str | None = None,
    for_zones: tuple[str, ...] = (),
    for_nodes: tuple[str, ...] = (),
    **conditions: Any,
) -> JSON:
    """An endpoint of a slice; ready where nothing else is said."""
    named = {"forZones": for_zones, "forNodes": for_nodes}
    hints = {what: [{"name": name} for name in names] for what, names in named.items() if names}
    target = {"kind": "Pod", "namespace": "default", "name": pod, "uid": f"uid-{pod}"} if pod else None
    conditions = conditions or {"ready": True, "serving": True, "terminating": False}
    body = {"addresses": [address], "conditions": conditions, "targetRef": target, "nodeName": node, "zone": zone}
    return {**body, **({"hints": hints} if hints else {})}


def endpoint_slice(
    name: str = "reviews-a",
    *endpoints: JSON,
    service: str | None = "reviews",
    namespace: str = "default",
    family: str = "IPv4",
    ports: Any = (("http", 8080),),
) -> EndpointSlice:
    """An EndpointSlice of a service."""
    labels = {"kubernetes.io/service-name": service} if service is not None else None
    body = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata(name, namespace, labels=labels),
        "addressType": family,
        "endpoints": list(endpoints) or None,
        "ports": [{"name": port, "port": number, "protocol": "TCP"} for port, number in ports] or None,
    }
    return msgspec.convert(body, EndpointSlice)


def pod(name: str, namespace: str = "default", *, account: str = "default", **labels: str) -> Pod:
    """A Pod."""
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(name, namespace, labels=labels or None),
        "spec": {"serviceAccountName": account, "containers": [{"name": "app"}]},
        "status": {"phase": "Running"},
    }
    return msgspec.convert(body, Pod)


def node(name: str, *, region: str = "", zone: str = "") -> Node:
    """A Node."""
    labels = {"kubernetes.io/os": "linux"}
    if region:
        labels["topology.kubernetes.io/region"] = region
    if zone:
        labels["topology.kubernetes.io/zone"] = zone
    return msgspec.convert({"kind": "Node", "metadata": metadata(name, "", labels=labels)}, Node)
