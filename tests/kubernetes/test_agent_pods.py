"""Pods with identities: agent and Envoy beside a program, the authority shared by two replicas in a Secret; all real.

The manifest is the one that `docs/how-to/identities-in-kubernetes.md` tells of.
"""

from __future__ import annotations

import base64
import datetime as dt
import http.client
import json
import secrets
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from fairlead.client import Client
from fairlead.processes import Child, Children
from tests.support.installed import NAMESPACE, Installed
from tests.support.kubernetes import JSON, ROOT, Cluster, eventually
from tests.support.pod_tokens import bundle
from tests.support.programs import FAIRLEAD
from tests.support.rolled import gateway
from tests.support.traffic import Traffic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(580)]

LIFE = 180
SOCKET = "/run/fairlead/agent/sds.sock"
ASK = """
import http.client, sys
try:
    line = http.client.HTTPConnection("127.0.0.1", 15001, timeout=10)
    line.request("GET", "/", headers={"Host": sys.argv[1]})
    answer = line.getresponse()
    print("answered", answer.status, answer.read()[:200] if answer.status != 200 else "")
except (OSError, http.client.HTTPException) as error:
    print("answered nothing:", error)
"""
STOP_AGENT = "import os, signal; os.kill(1, signal.SIGTERM)"
LEFT = """
import os
for folder in ("/run/fairlead", "/tmp", "/dev/shm"):
    for at, _, names in os.walk(folder):
        print(*(os.path.join(at, name) for name in names if os.path.isfile(os.path.join(at, name))))
"""


class Workload:
    """The example's workload under a name of its own, in a namespace."""

    def __init__(self, cluster: Cluster, namespace: str, name: str) -> None:
        self.cluster, self.namespace, self.name = cluster, namespace, name
        command = [*FAIRLEAD, "bootstrap", "sidecar", "--name", name, "--namespace", namespace, "--port", "8080"]
        command += ["--instance", "pod", "--xds", f"fairlead.{NAMESPACE}.svc:18000", "--agent", SOCKET]
        started = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        proxy = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"{name}-proxy"},
            "data": {"bootstrap.yaml": started},
        }
        text = (ROOT / "kind-cluster" / "sidecars" / "web.yaml").read_text()
        items = [item for item in yaml.safe_load_all(text.replace("~web~", f"~{name}~")) if item]
        for item in items:
            _rename(item, name)
        cluster.apply(proxy, *items, namespace=namespace)

    @property
    def pod(self) -> str:
        """The pod that is there, and no other."""
        path = f"/api/v1/namespaces/{self.namespace}/pods?labelSelector=app%3D{self.name}"
        found = [item for item in self.cluster.get(path)["items"] if "deletionTimestamp" not in item["metadata"]]
        return str(found[0]["metadata"]["name"]) if len(found) == 1 else ""

    def ready(self) -> bool:
        found = self.cluster.find(f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{self.name}")
        return bool(found and found["status"].get("readyReplicas"))

    def restarts(self, container: str = "agent") -> int:
        """How often a container of the pod was started again, once it runs and the pod is ready; -1 before."""
        status = self.cluster.get(f"/api/v1/namespaces/{self.namespace}/pods/{self.pod}")["status"]
        ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status["conditions"])
        found = next(each for each in status["containerStatuses"] if each["name"] == container)
        return int(found["restartCount"]) if ready else -1

    def log(self, container: str = "agent") -> str:
        return self.cluster.kubectl("-n", self.namespace, "logs", self.pod, "-c", container, check=False)

    def certificates(self) -> int:
        return self.log().count("certificate of spiffe")

    def run(self, code: str, *words: str, container: str = "agent") -> str:
        command = ["-n", self.namespace, "exec", self.pod, "-c", container, "--", "/usr/local/bin/python3", "-c", code]
        return self.cluster.kubectl(*command, *words, check=False).strip()

    def status(self, host: str) -> str:
        """What the program is answered when it asks for another service through its sidecar.

        Something else than `answered …` where nobody could be made to ask.
        """
        said = self.run(ASK, host, container=self.name).splitlines()  # kubectl may add words of its own
        return next((line.strip() for line in said if line.startswith("answered")), "")


def _rename(item: JSON, name: str) -> None:
    """Make the example's `web` another workload."""
    if item["metadata"]["name"] == "web":
        item["metadata"]["name"] = name
    spec = item.get("spec", {})
    if item["kind"] == "Service":
        spec["selector"]["app"] = name
    if item["kind"] == "Deployment":
        spec["selector"]["matchLabels"]["app"] = spec["template"]["metadata"]["labels"]["app"] = name
        pod = spec["template"]["spec"]
        pod["serviceAccountName"] = name
        pod["volumes"][0]["configMap"]["name"] = f"{name}-proxy"
        pod["containers"][0]["name"] = name


def mode(wanted: str) -> JSON:
    """The namespace's PeerAuthentication."""
    kind = {"apiVersion": "fairlead.dev/v1alpha1", "kind": "PeerAuthentication", "metadata": {"name": "strict"}}
    return {**kind, "spec": {"mtls": {"mode": wanted}}}


class Scene:
    """The installation, its API, and two workloads in namespaces of their own."""

    def __init__(self, cluster: Cluster, installed: Installed, token: str, names: tuple[str, str]) -> None:
        self.cluster, self.installed, self._token = cluster, installed, token
        self.shop, self.pay = names
        self.web = Workload(cluster, self.shop, "web")
        self.client = Workload(cluster, self.pay, "client")
        export = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
        export["metadata"]["annotations"] = {"fairlead.dev/export-to": "*"}  # type: ignore[index]
        cluster.apply(export, namespace=self.shop, manager="export")
        cluster.apply(mode("STRICT"), namespace=self.shop)
        for one in (self.web, self.client):
            eventually(one.ready, f"the pod of {one.name}", seconds=180)
        self.host = f"web.{self.shop}"
        eventually(
            lambda: self.client.status(self.host) == "answered 200", "the first request over mutual TLS", seconds=120
        )

    @property
    def api(self) -> Client:
        """The API of whichever replica answers."""
        service = self.cluster.get(f"/api/v1/namespaces/{NAMESPACE}/services/fairlead")
        return Client(f"http://{service['spec']['clusterIP']}:8080", token=self._token)

    def address(self, port: int) -> str:
        service = self.cluster.get(f"/api/v1/namespaces/{NAMESPACE}/services/fairlead")
        return f"{service['spec']['clusterIP']}:{port}"

    def states(self) -> dict[str, str]:
        return {one["state"]: one["id"] for one in self.api.get("/api/v1/authority")["authorities"]}

    def step(self, what: str, **query: str) -> Any:
        return self.api.request("POST", f"/api/v1/authority/{what}", body={}, query=query).json()

    def agent(self, children: Children, token: str, name: str) -> Child:
        """An agent on this machine with a token out of a pod."""
        files = {"token": token, "roots": bundle(self.cluster, NAMESPACE)}
        for file, text in files.items():
            (children.folder / f"{name}-{file}").write_text(text)
        command = [*FAIRLEAD, "agent", "--server", self.address(18000), "--join", self.address(18001)]
        command += ["--server-name", f"fairlead.{NAMESPACE}.svc", "--ca", str(children.folder / f"{name}-roots")]
        command += ["--token-file", str(children.folder / f"{name}-token")]
        return children.start(name, [*command, "--socket", str(children.folder / name / "sds.sock")])


@pytest.fixture(scope="module")
def scene(cluster: Cluster, crds: None, images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    names = (f"test-shop-{secrets.token_hex(3)}", f"test-pay-{secrets.token_hex(3)}")
    token = secrets.token_hex(20)
    for name in (NAMESPACE, *names):
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    for name, data in (
        ("fairlead-ca-passphrase", {"passphrase": secrets.token_hex(24)}),
        ("fairlead-api-tokens", {"tokens": f"test:write:{token}\n"}),
    ):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
        cluster.apply(secret, namespace=NAMESPACE)
    settings = {
        "FAIRLEAD_CA_LEAF_LIFETIME": str(LIFE),
        "FAIRLEAD_CA_LEAF_LIFETIME_MIN": "5",
        "FAIRLEAD_CA_SETTLE_TIME": "5",
        "FAIRLEAD_CA_MOUNT_TIME": "100",
    }
    installed = Installed(
        cluster, tmp_path_factory.mktemp("kustomization"), names, components=["identities"], settings=settings
    )
    installed.install()
    try:
        yield Scene(cluster, installed, token, names)
    finally:
        for name in names:
            cluster.delete({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        installed.remove()


def traffic(scene: Scene) -> Traffic:
    """The client asks for the other namespace's service, over and over."""

    def one() -> str:
        said = scene.client.status(scene.host)
        at = dt.datetime.now(dt.UTC).time()
        return f"{at}: {said}" if said not in ("", "answered 200") else ""

    return Traffic(one, pause=0.1)


def test_each_pod_has_the_identity_of_its_own_account_and_none_touches_a_disk(scene: Scene) -> None:
    for one in (scene.web, scene.client):
        identity = f"spiffe://cluster.local/ns/{one.namespace}/sa/{one.name}"
        assert f"certificate of {identity} until" in one.log()
        assert one.log().count("certificate of spiffe") == one.log().count(f"certificate of {identity} ")
        assert one.run(LEFT).split() == [], "files where only a socket should be"
        assert "PRIVATE KEY" not in one.log() + one.log("envoy")
    address = scene.cluster.get(f"/api/v1/namespaces/{scene.shop}/pods/{scene.web.pod}")["status"]["podIP"]
    with pytest.raises(OSError, match=r"reset|closed"):
        _status(address, 15006, scene.host)


def test_replicas_share_one_authority_whose_keys_are_sealed(scene: Scene) -> None:
    replicas = scene.installed.pods()
    assert len(replicas) == 2
    kept = scene.cluster.get(f"/api/v1/namespaces/{NAMESPACE}/secrets/fairlead-authority")["data"]["book"]
    book = base64.b64decode(kept)
    assert b"BEGIN CERTIFICATE" in book
    assert b"PRIVATE KEY" not in book
    board = scene.cluster.get(f"/api/v1/namespaces/{NAMESPACE}/configmaps/fairlead-authority-replicas")["data"]
    assert {json.loads(text)["roots"] for text in board.values()} == {
        json.loads(next(text for name, text in board.items() if name.startswith(replicas[0])))["roots"]
    }
    assert {name.rpartition("-")[0] for name in board} >= set(replicas)


@pytest.mark.faults
def test_certificates_are_renewed_through_an_agent_that_starts_anew_and_a_server_that_is_away(scene: Scene) -> None:
    with traffic(scene) as requests:
        had = scene.web.certificates()
        eventually(lambda: scene.web.certificates() > had, "a renewal", seconds=LIFE, every=1)
    assert requests.failures == [], requests.failures
    with traffic(scene) as requests:
        before = scene.web.restarts()
        assert before >= 0
        scene.web.run(STOP_AGENT)
        again = "the agent's container to be started again, and the pod to be ready"
        eventually(lambda: scene.web.restarts() > before, again, seconds=120)
        eventually(lambda: scene.web.certificates() > 0, "its certificate", seconds=60)
        eventually(lambda: scene.client.status(scene.host) == "answered 200", "an answer", seconds=60)
    # Kubernetes takes a pod out of its Service while a container of it starts anew; the Envoy in it goes on.
    others = [failure for failure in requests.failures if "no healthy upstream" not in failure]
    assert others == [], others
    with traffic(scene) as requests:
        had = scene.web.certificates()
        scene.installed.scale(0)
        eventually(lambda: "no new certificate" in scene.web.log(), "a renewal that fails", seconds=LIFE, every=1)
        scene.installed.scale(2)

        def renewed() -> bool:
            assert scene.web.certificates() > had, f"{scene.web.log()[-3000:]}\n{scene.installed.logs()}"
            return True

        eventually(renewed, "the renewal", seconds=LIFE, every=1)
    assert requests.requests > 20
    assert requests.failures == [], requests.failures


@pytest.mark.faults
def test_a_pods_token_is_good_for_its_own_account_and_for_nobody_once_the_pod_is_gone(
    scene: Scene, children: Children
) -> None:
    token = scene.client.run("print(open('/var/run/secrets/fairlead/token').read())")
    agent = scene.agent(children, token, "agent")
    eventually(lambda: "certificate of spiffe" in agent.log.read_text(), "its certificate")
    assert f"certificate of spiffe://cluster.local/ns/{scene.pay}/sa/client until" in agent.log.read_text()
    gone = scene.client.pod
    scene.cluster.kubectl("-n", scene.pay, "delete", "pod", gone, "--grace-period=0", "--force")
    path = f"/api/v1/namespaces/{scene.pay}/pods/{gone}"
    eventually(lambda: scene.cluster.find(path) is None, "the pod to be gone")

    def refused() -> bool:
        """Good answers are remembered for a minute, and ten seconds by the API server itself."""
        late = scene.agent(children, token, f"late-{secrets.token_hex(2)}")
        words = "refused: the control plane's log says why"
        children.wait_until(
            lambda: words in late.log.read_text() or "certificate of spiffe" in late.log.read_text(), what="an answer"
        )
        late.stop()
        children.started.remove(late)
        return words in late.log.read_text()

    eventually(refused, "the token to be refused", seconds=150, every=5)
    eventually(lambda: scene.client.status(scene.host) == "answered 200", "the new pod", seconds=120)


@pytest.mark.faults
def test_a_new_root_breaks_neither_the_mesh_nor_a_gateway_that_comes_in_by_token(
    scene: Scene, request: pytest.FixtureRequest
) -> None:
    scene.cluster.apply(gateway(8000), namespace=scene.shop)
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "web"},
        "spec": {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]},
    }
    scene.cluster.apply(mode("PERMISSIVE"), route, namespace=scene.shop)
    request.addfinalizer(lambda: scene.cluster.apply(mode("STRICT"), namespace=scene.shop))
    services = f"/api/v1/namespaces/{scene.shop}/services/edge-fairlead"
    edge = eventually(lambda: scene.cluster.find(services), "the Gateway's Service")["spec"]["clusterIP"]
    eventually(lambda: _answers(edge), "the Gateway to answer", seconds=120)
    old = scene.states()["active"]
    with traffic(scene) as requests:
        new = scene.step("prepare")["id"]
        eventually(lambda: bundle(scene.cluster, NAMESPACE).count("BEGIN") == 2, "the ConfigMap to tell of both")
        scene.step(f"{new}/activate")
        eventually(lambda: scene.states().get("active") == new, "the new root to sign", seconds=200, every=1)
        scene.step(f"{old}/taint")
        had = scene.web.certificates(), scene.client.certificates()
        renewed = lambda: scene.web.certificates() > had[0] and scene.client.certificates() > had[1]  # noqa: E731
        eventually(renewed, "the agents to renew", seconds=LIFE, every=1)
        scene.step(f"{old}/revoke", override="true")
        # Replicas that show nothing but certificates of the new root: the Gateway's proxies must believe it by now.
        scene.installed.restart()
        eventually(lambda: "edge" in _proxies(scene), "the Gateway's proxy to come back", seconds=120)
        assert _answers(edge)
    assert requests.failures == [], requests.failures


def _proxies(scene: Scene) -> set[str]:
    return {one["name"] for one in scene.api.get("/api/v1/proxies")["items"]}


def _answers(address: str) -> bool:
    try:
        return _status(address, 8000, "any.example.com") == 200
    except OSError:
        return False


def _status(address: str, port: int, host: str) -> int:
    line = http.client.HTTPConnection(address, port, timeout=10)
    try:
        line.request("GET", "/", headers={"Host": host})
        return line.getresponse().status
    finally:
        line.close()
