"""A real Kubernetes for tests: which one, a small synchronous client of it, and waiting.

The client is the tests' own view of the cluster and shares no code with `discovery/kubernetes`. It speaks JSON and
server-side apply; credentials are whatever the kubeconfig says, through the official client.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import yaml

from fairlead.errors import CommandError

ROOT = Path(__file__).resolve().parents[2]
KUBE_NODE = ROOT / "tests" / "kube-node" / "kube-node"
INSTALL = ROOT / "kind-cluster" / "install"
JSON = dict[str, Any]
T = TypeVar("T")

PATIENCE = 120.0
"""Seconds that waiting lasts where nothing else is said: far longer than anything takes on a busy machine."""
_APPLY = "application/apply-patch+yaml"
_CALL = 30.0


class Refused(AssertionError):  # noqa: N818 - reads as what happened
    """The API server answered with an error: its HTTP status, reason and message."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def is_passing(self) -> bool:
        """Whether it says how busy the server or its etcd is, and nothing of the request."""
        busy = http.client.TOO_MANY_REQUESTS, http.client.SERVICE_UNAVAILABLE, http.client.GATEWAY_TIMEOUT
        return self.status in busy or "etcdserver: request timed out" in self.message


class Cluster:
    """An API server as its administrator sees it. Objects are dictionaries as their manifests write them."""

    def __init__(self, kubeconfig: Path) -> None:
        from kubernetes import config

        self.kubeconfig = kubeconfig
        self._cache = tempfile.TemporaryDirectory()  # kubectl's own would not know of kinds installed since
        self._client = config.new_client_from_config(str(kubeconfig))
        self._resources: dict[tuple[str, str], tuple[str, bool]] = {}

    def close(self) -> None:
        """Let the connections go."""
        self._client.rest_client.pool_manager.clear()
        self._cache.cleanup()

    def request(self, method: str, path: str, body: object = None, *, content_type: str = "application/json") -> JSON:
        """Ask for `path` (with its query) and return the answer.

        Raises:
            Refused: it answered with a status of 400 or more.
        """
        answer = self.raw(method, path, body, content_type=content_type)
        return json.loads(answer) if answer else {}

    def raw(self, method: str, path: str, body: object = None, *, content_type: str = "application/json") -> str:
        """As `request`, for answers that are not JSON (logs, metrics through a proxy).

        What a busy API server asks to be asked again is asked again, as kubectl does.
        """
        deadline = time.monotonic() + _CALL
        while True:
            try:
                return self._raw(method, path, body, content_type)
            except Refused as refused:
                again = refused.is_passing and (method != "POST" or refused.status == http.client.TOO_MANY_REQUESTS)
                if not again or time.monotonic() > deadline:
                    raise
            time.sleep(0.2)

    def _raw(self, method: str, path: str, body: object, content_type: str) -> str:
        from urllib3.exceptions import HTTPError

        settings = self._client.configuration
        headers = {"Content-Type": content_type, "Accept": "application/json, */*"}
        if token := settings.get_api_key_with_prefix("BearerToken") or settings.get_api_key_with_prefix(
            "authorization"
        ):
            headers["Authorization"] = token
        data = None if body is None else json.dumps(body)
        try:
            answer = self._client.rest_client.pool_manager.request(
                method, settings.host + path, body=data, headers=headers, timeout=_CALL
            )
        except HTTPError as error:
            raise ConnectionError(f"{method} {path}: {error}") from error
        text = answer.data.decode()
        if answer.status >= 400:
            try:
                said = json.loads(text)
            except ValueError:
                said = {"message": text}
            raise Refused(answer.status, said.get("reason", ""), said.get("message", text))
        return text

    def get(self, path: str) -> JSON:
        """The object or list at `path`."""
        return self.request("GET", path)

    def find(self, path: str) -> JSON | None:
        """The object at `path`, or None."""
        try:
            return self.get(path)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def path(self, item: JSON) -> str:
        """Where an object stands, after its apiVersion, kind, namespace and name."""
        version = item["apiVersion"]
        plural, namespaced = self._resource(version, item["kind"])
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        scope = f"/namespaces/{item['metadata'].get('namespace', 'default')}" if namespaced else ""
        return f"{root}{scope}/{plural}/{item['metadata']['name']}"

    def apply(self, *items: JSON | str, namespace: str = "", manager: str = "tests") -> list[JSON]:
        """Server-side apply objects, given as dictionaries or as YAML, in their order; unknown fields are refused."""
        done = []
        query = urlencode({"fieldManager": manager, "force": "true", "fieldValidation": "Strict"})
        for item in _objects(items):
            if namespace and self._resource(item["apiVersion"], item["kind"])[1]:
                item = {**item, "metadata": {"namespace": namespace, **item["metadata"]}}
            done.append(self.request("PATCH", f"{self.path(item)}?{query}", item, content_type=_APPLY))
        return done

    def delete(self, item: JSON, *, wait: float = 0.0) -> None:
        """Delete an object if it is there; with `wait`, until it is gone for at most so many seconds."""
        path = self.path(item)
        try:
            self.request("DELETE", path, {"propagationPolicy": "Background"})
        except Refused as refused:
            if refused.status != http.client.NOT_FOUND:
                raise
            return
        if wait:
            eventually(lambda: self.find(path) is None, f"{path} to be gone", seconds=wait)

    def kubectl(self, *arguments: str, check: bool = True) -> str:
        """What kubectl prints."""
        done = subprocess.run(
            [*kubectl(), *arguments],
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": self._cache.name},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout + ("" if check else done.stderr)

    def _resource(self, version: str, kind: str) -> tuple[str, bool]:
        """The plural of a kind, and whether it is namespaced. The API server lists a CRD's a while after it has it."""
        if (version, kind) not in self._resources:
            missing = f"the cluster to list {kind} of {version}; is its CRD installed?"
            eventually(lambda: self._lists(version, kind), missing, seconds=20.0)
        return self._resources[version, kind]

    def _lists(self, version: str, kind: str) -> bool:
        listed = self.get(f"/apis/{version}" if "/" in version else f"/api/{version}")["resources"]
        for one in listed:
            if "/" not in one["name"]:
                self._resources[version, one["kind"]] = one["name"], one["namespaced"]
        return (version, kind) in self._resources


def _objects(items: Iterable[JSON | str]) -> Iterable[JSON]:
    for item in items:
        if isinstance(item, str):
            yield from (one for one in yaml.safe_load_all(item) if one)
        else:
            yield item


def eventually(ask: Callable[[], T | None], what: str, *, seconds: float = PATIENCE, every: float = 0.05) -> T:
    """Ask until the answer is neither None nor False, and return it. What cannot be told yet is asked again.

    Raises:
        AssertionError: it did not become so in time; says what, and the last error.
    """
    deadline = time.monotonic() + seconds
    last: Exception | None = None
    while True:
        try:
            answer = ask()
            if answer is not None and answer is not False:
                return answer
            last = None
        except (OSError, http.client.HTTPException, CommandError, AssertionError, LookupError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}" + (f": {last}" if last else ""))
        time.sleep(every)


def at_rest(ask: Callable[[], T], what: str, *, seconds: float = 3.0) -> T:
    """Ask until the answer has been the same for so long, and return it: from then on what changes has a reason.

    Raises:
        AssertionError: it never came to rest.
    """
    since = time.monotonic()
    last = ask()

    def same() -> bool:
        nonlocal last, since
        now = ask()
        if now != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since >= seconds

    eventually(same, f"{what} to come to rest", every=0.2)
    return last


def condition(item: JSON, kind: str) -> JSON | None:
    """The condition of that type in an object's status."""
    found = item.get("status", {}).get("conditions", [])
    return next((one for one in found if one["type"] == kind), None)


def kubectl() -> list[str]:
    """The command line of kubectl: the machine's, else the local node's."""
    return ["kubectl"] if shutil.which("kubectl") else [str(KUBE_NODE), "kubectl"]


def why_no_node() -> str:
    """Why the local node cannot be used here; empty if it can."""
    if os.geteuid() != 0:
        return "no KUBECONFIG, and the local node needs root"
    if not shutil.which("go") and not (_home() / "bin" / "stamp").exists():
        return "no KUBECONFIG, and the local node needs Go 1.26 to be built"
    if not (_home() / "bin" / "stamp").exists():
        return "no KUBECONFIG, and the local node is not built: run `make test-kubernetes`"
    return ""


def local_kubeconfig() -> Path:
    """Start the local node unless it runs, and return the path of its kubeconfig."""
    done = subprocess.run([str(KUBE_NODE), "up"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return _home() / "state" / "admin.conf"


def _home() -> Path:
    return Path(os.environ.get("KUBE_NODE_HOME", Path.home() / ".cache" / "kube-node"))
