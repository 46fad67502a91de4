"""A Deployment behind a Gateway, for tests that roll it under traffic: manifests, and how far a rollout has come.

Its pods keep their connections open and end them at SIGTERM. As everywhere in Kubernetes, they need a `preStop` that
waits: whoever sends them requests learns that they end after the kubelet does, and until then they must answer.
"""

from __future__ import annotations

from tests.support.kubernetes import JSON, Cluster

_SAFE = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def deployment(*, replicas: int, linger: int, name: str = "web", failing: int = 0) -> JSON:
    """Pods of the sample backend that answer for `linger` seconds after they were told to end.

    So many percent of the answers are errors.
    """
    labels = {"app": name}
    command = ["/usr/local/bin/python3", "-m", "fairlead.demo.backend", "--host", "0.0.0.0", "--port", "8080"]
    container = {
        "name": "web",
        "image": "fairlead:dev",
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "args": ["--name", name, "--version", "v1", "--instance", "$(POD)", "--failing", str(failing)],
        "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 1},
        "lifecycle": {"preStop": {"sleep": {"seconds": linger}}},
        "resources": {"requests": {"cpu": "1m", "memory": "16Mi"}},
        "securityContext": _SAFE,
    }
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": linger + 10,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532},
        "containers": [container],
    }
    rolling = {"maxUnavailable": 0, "maxSurge": "25%"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def service(name: str = "web") -> JSON:
    """Its Service."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    }


def gateway(port: int) -> JSON:
    """A Gateway `edge` with one listener."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "edge"},
        "spec": {
            "gatewayClassName": "fairlead",
            "listeners": [{"name": "http", "port": port, "protocol": "HTTP"}],
        },
    }


def route(path: str = "/", name: str = "web") -> JSON:
    """A route from the Gateway to the Service."""
    match = {"path": {"type": "PathPrefix", "value": path}}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {
            "parentRefs": [{"name": "edge"}],
            "rules": [{"matches": [match], "backendRefs": [{"name": "web", "port": 80}]}],
        },
    }


class Rollout:
    """A rollout of the Deployment in a namespace, begun when it is made."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._path = f"/apis/apps/v1/namespaces/{namespace}/deployments/web"
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._before = self.pods()
        patch = {"spec": {"template": {"metadata": {"annotations": {"rolled": str(len(self._before))}}}}}
        self._cluster.request("PATCH", self._path, patch, content_type="application/merge-patch+json")

    def pods(self) -> set[str]:
        """The names of all pods, those that end too."""
        return {item["metadata"]["name"] for item in self._cluster.get(self._pods)["items"]}

    def gone(self) -> int:
        """How many of the former pods are gone."""
        return len(self._before - self.pods())

    def done(self) -> bool:
        """Whether all pods are new ones, and all of them are ready."""
        found = self._cluster.get(self._path)
        wanted = found["spec"]["replicas"]
        return not self._before & self.pods() and found["status"].get("readyReplicas") == wanted


def is_ready(cluster: Cluster, namespace: str, name: str = "web") -> bool:
    """Whether all pods of the Deployment are ready."""
    found = cluster.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
    return bool(found["status"].get("readyReplicas") == found["spec"]["replicas"])
