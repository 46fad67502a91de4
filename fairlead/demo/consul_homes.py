"""Where the demo's service lives before it moves to Consul: in a file of objects, or as pods in a real Kubernetes."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fairlead.demo.consul_scene import ConsulScene
from fairlead.errors import CommandError, UsageError

IMAGE = "fairlead:dev"
PODS = 2
_LABELS = {"app": "reviews", "version": "v1", "home": "kubernetes"}
_SAFE = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
_LINGER = 5  # seconds in which a pod answers after it was told to end, until everybody knows
_PATIENCE = 180.0
_CALL = 30.0
_ANY = "0.0.0.0"  # noqa: S104 - of the pod's own network


class FileHome:
    """A `Service` object in the folder of files."""

    name = "file"
    namespace = "default"
    flags: Sequence[str] = ()

    def prepare(self) -> None:
        """See `Home`."""

    def move_in(self, scene: ConsulScene, /) -> frozenset[str]:
        """See `Home`."""
        old = scene.start_backend("v1", "old")
        scene.tell_by_file(old)
        return frozenset({old.id})

    def move_out(self, scene: ConsulScene, /) -> None:
        """See `Home`."""
        scene.tell_by_file()

    def close(self) -> None:
        """See `Home`."""


class KubernetesHome:
    """A Deployment and a Service in a namespace of their own. The pods' addresses must be reachable from here."""

    name = "kubernetes"

    def __init__(self, kubeconfig: str) -> None:
        """Raises UsageError where the file cannot be used."""
        if not Path(kubeconfig).is_file():
            raise UsageError(f"--kubeconfig: there is no file {kubeconfig}. Fix: name a kubeconfig, or leave it out")
        try:
            from kubernetes import client, config
        except ImportError:
            raise UsageError("--kubeconfig needs Kubernetes' client. Fix: pip install 'fairlead[kubernetes]'") from None
        try:
            self._api = config.new_client_from_config(kubeconfig)
        except config.ConfigException as error:
            raise UsageError(f"--kubeconfig: {kubeconfig} cannot be used: {error}. Fix: name a kubeconfig") from None
        self._core, self._apps = client.CoreV1Api(self._api), client.AppsV1Api(self._api)
        self.namespace = f"fairlead-demo-{secrets.token_hex(3)}"
        self.flags: Sequence[str] = (
            *("--kubernetes", kubeconfig, "--kubernetes-namespaces", self.namespace),
            *("--kubernetes-lease", f"{self.namespace}/fairlead", "--consul-namespace", self.namespace),
        )
        self._made = False

    def prepare(self) -> None:
        """See `Home`. Raises CommandError, as all that asks Kubernetes."""
        with _told(f"the namespace {self.namespace} cannot be made"):
            self._core.create_namespace({"metadata": {"name": self.namespace}}, _request_timeout=_CALL)
        self._made = True

    def move_in(self, scene: ConsulScene, /) -> frozenset[str]:
        """See `Home`."""
        with _told("the pods cannot be made"):
            self._apps.create_namespaced_deployment(self.namespace, _deployment(), _request_timeout=_CALL)
            self._core.create_namespaced_service(self.namespace, _service(), _request_timeout=_CALL)
        try:
            scene.children.wait_until(self._are_ready, what="the pods to be ready", timeout=_PATIENCE)
        except CommandError as error:
            raise CommandError(
                f"{error}; Kubernetes says: {self._why()}. Fix: the image {IMAGE} must be in the cluster (`make images`"
                " loads it into the local node)"
            ) from None
        with _told("the pods cannot be listed"):
            return frozenset(pod.metadata.name for pod in self._pods())

    def move_out(self, _: ConsulScene, /) -> None:
        """See `Home`."""
        with _told("the pods cannot be removed"):
            self._apps.delete_namespaced_deployment("reviews", self.namespace, _request_timeout=_CALL)
            self._core.delete_namespaced_service("reviews", self.namespace, _request_timeout=_CALL)

    def close(self) -> None:
        """See `Home`."""
        if self._made:
            with _told(f"the namespace {self.namespace} is left behind"):
                self._core.delete_namespace(self.namespace, _request_timeout=_CALL)
        self._api.close()

    def _are_ready(self) -> bool:
        try:
            found = self._apps.read_namespaced_deployment("reviews", self.namespace, _request_timeout=_CALL)
        except _failures():
            return False
        return bool((found.status.ready_replicas or 0) >= PODS)

    def _pods(self) -> list[Any]:
        return list(self._core.list_namespaced_pod(self.namespace, _request_timeout=_CALL).items)

    def _why(self) -> str:
        try:
            containers = [one for pod in self._pods() for one in pod.status.container_statuses or ()]
        except _failures() as error:
            return str(error)
        waiting = [one.state.waiting for one in containers if one.state.waiting]
        return next((f"{why.reason} {why.message or ''}".strip() for why in waiting), "no reason is told")


def _failures() -> tuple[type[Exception], ...]:
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    return ApiException, HTTPError


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Kubernetes' errors as ours."""
    try:
        yield
    except _failures() as error:
        words = getattr(error, "reason", None) or error
        raise CommandError(
            f"{what}: {words}. Fix: see that the API server of --kubeconfig runs and lets you, or leave it out"
        ) from None


def _deployment() -> dict[str, Any]:
    command = ["/usr/local/bin/python3", "-m", "fairlead.demo.backend", "--host", _ANY, "--port", "8080"]
    container = {
        "name": "reviews",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "args": ["--name", "reviews", "--version", "v1", "--instance", "$(POD)"],
        "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 1},
        "lifecycle": {"preStop": {"sleep": {"seconds": _LINGER}}},
        "resources": {"requests": {"cpu": "1m", "memory": "16Mi"}},
        "securityContext": _SAFE,
    }
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532},
        "containers": [container],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "reviews"},
        "spec": {
            "replicas": PODS,
            "selector": {"matchLabels": {"app": "reviews"}},
            "template": {"metadata": {"labels": _LABELS}, "spec": pod},
        },
    }


def _service() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "reviews"},
        "spec": {"selector": {"app": "reviews"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    }
