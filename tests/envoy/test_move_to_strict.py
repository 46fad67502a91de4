"""The page about moving to STRICT, followed from its first step to its last under requests that never fail.

The policies are those of the page, read from it. A mesh client (a gateway) asks all the time; a client without an
identity comes to the workload's port itself.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.processes import Children, free_port
from tests.support.agents import Mesh
from tests.support.programs import RunningEnvoy, ask, start_backend, start_envoy
from tests.support.traffic import Traffic

pytestmark = [pytest.mark.envoy, pytest.mark.slow]

SPACE = "shop"


def blocks(root: Path) -> list[dict[str, Any]]:
    """The policies of the page, in order."""
    page = (root / "docs/how-to/move-to-strict.md").read_text()
    return [yaml.safe_load(part.partition("```")[0]) for part in page.split("```yaml\n")[1:]]


def document(kind: str, name: str, spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    api = "fairlead.dev/v1alpha1" if kind == "Service" else "gateway.networking.k8s.io/v1"
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": SPACE, **metadata}, "spec": spec}


class Shop:
    """The workload `reviews` behind a sidecar, and a gateway; both with an agent."""

    def __init__(self, children: Children) -> None:
        self.children = children
        self.port, self.ingress = free_port(), free_port()
        self.policies: list[dict[str, Any]] = []
        self.identities = False
        self.mesh = Mesh(children, self._config())
        backend = start_backend(children, "reviews")
        flags = ["--port", str(backend), "--ingress-port", str(self.ingress), "--egress-port", str(free_port())]
        self.sidecar = self._envoy("sidecar", "reviews", *flags)
        self.gateway = self._envoy("gateway", "edge")

    def _envoy(self, kind: str, name: str, *flags: str) -> RunningEnvoy:
        agent, path = self.mesh.agent(name, token=self.mesh.join_token(name, SPACE))
        self.children.wait_until(lambda: self.mesh.has_identity(agent), what=f"the identity of {name}")
        more = ("--namespace", SPACE, "--agent", str(path), *flags)
        return start_envoy(self.children, kind, name, *more, xds=self.mesh.xds)

    def _config(self) -> str:
        identity = {"meshTls": True, "serviceAccount": "reviews"} if self.identities else {}
        endpoint = {"address": "127.0.0.1", "ports": {"http": self.ingress}, "labels": {"app": "reviews"}, **identity}
        listeners = [{"name": "http", "port": self.port, "protocol": "HTTP"}]
        service = {"ports": [{"name": "http", "port": 80}], "endpoints": [endpoint]}
        gateway = {"gatewayClassName": "fairlead", "listeners": listeners, "addresses": [{"value": "127.0.0.1"}]}
        route = {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [{"name": "reviews", "port": 80}]}]}
        documents = [
            document("Service", "reviews", service, labels={"app": "reviews"}),
            document("Gateway", "edge", gateway),
            document("HTTPRoute", "reviews", route),
            *self.policies,
        ]
        return "\n---\n".join(map(json.dumps, documents))

    def declare(self, *policies: dict[str, Any]) -> None:
        """Have these policies, and no others."""
        self.policies = list(policies)
        new = self.mesh.file.with_suffix(".new")
        new.write_text(self._config())
        new.rename(self.mesh.file)

    def wait(self, condition: Any, what: str) -> None:
        self.children.wait_until(condition, what=what, timeout=60)

    def answers(self, port: int) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return ask(port, "reviews").status == 200
        return False

    def plaintext(self) -> bool:
        """Whether a client without an identity gets in."""
        return self.answers(self.ingress)

    def counted(self, name: str) -> int:
        """What step 2 looks at: the sum of a counter of the sidecar's listeners."""
        lines = self.sidecar.get("/stats?filter=" + name).splitlines()
        counters = (line.rpartition(": ") for line in lines if line.startswith("listener."))
        return sum(int(value) for stat, _, value in counters if stat.endswith(name) and str(self.ingress) in stat)


def test_every_step_of_the_page_holds_and_no_mesh_request_fails(children: Children, root: Path) -> None:
    one, space = blocks(root)
    assert (one["metadata"]["namespace"], space["metadata"]["namespace"]) == (SPACE, SPACE)
    shop = Shop(children)
    shop.wait(lambda: shop.answers(shop.port), "the gateway")
    assert shop.plaintext()
    assert shop.counted("ssl.handshake") == 0

    def one_request() -> str:
        try:
            status = ask(shop.port, "reviews").status
        except (OSError, ValueError) as error:
            return repr(error)
        return "" if status == 200 else str(status)

    with Traffic(one_request, pause=0.02) as traffic:
        # 1: clients with an agent speak mutual TLS by themselves, and all others get in too.
        shop.identities = True
        shop.declare()
        shop.wait(lambda: shop.counted("ssl.handshake") > 0, "mutual TLS")
        assert shop.plaintext()
        # 2: who comes in plaintext can be seen.
        before = shop.counted("downstream_cx_total") - shop.counted("ssl.handshake")
        assert shop.plaintext()
        shop.wait(
            lambda: shop.counted("downstream_cx_total") - shop.counted("ssl.handshake") > before, "it to be counted"
        )
        # 3: one workload, and back.
        shop.declare(one)
        shop.wait(lambda: not shop.plaintext(), "STRICT for the workload")
        shop.declare()
        shop.wait(shop.plaintext, "it to be let in again")
        # 4: the namespace.
        shop.declare(one, space)
        shop.wait(lambda: not shop.plaintext(), "STRICT for the namespace")
        # 5: the mesh; what only repeats it goes.
        whole = {**space, "metadata": {"name": "strict", "namespace": "fairlead-system"}}
        shop.declare(one, space, whole)
        asked = traffic.requests
        shop.declare(whole)
        shop.wait(lambda: traffic.requests > asked + 20, "requests under the mesh's policy")
        assert not shop.plaintext()
        assert [each["kind"] for each in shop.mesh.serving.client.get("/api/v1/proxies")["items"]] == [
            "gateway",
            "sidecar",
        ]
        # Back: PERMISSIVE lets both in.
        shop.declare({**whole, "spec": {"mtls": {"mode": "PERMISSIVE"}}})
        shop.wait(shop.plaintext, "plaintext to be let in again")
    assert traffic.requests > 50
    assert traffic.failures == []
