"""Which mode holds for a service's workloads, and what the policies' owners are told."""

from __future__ import annotations

import pytest

from mesh.model import ServiceKey
from mesh.peer_authentication import PEER_IDENTITIES, PEER_MODES, PeerModes
from mesh.tables import Present
from tests.support.model import Model

WEB = ServiceKey("default", "web")


def policy(
    name: str, mode: str, *, namespace: str = "default", selector: str = "", ports: str = "", year: int = 2026
) -> str:
    select = f"selector: {{matchLabels: {{{selector}}}}}, " if selector else ""
    levels = f", portLevelMtls: {{{ports}}}" if ports else ""
    return f"""
apiVersion: fairlead.dev/v1alpha1
kind: PeerAuthentication
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "{year}-01-01T00:00:00Z"}}
spec: {{{select}mtls: {{mode: {mode}}}{levels}}}
"""


def service(*endpoints: str) -> str:
    return f"""
apiVersion: fairlead.dev/v1alpha1
kind: Service
metadata: {{name: web, namespace: default}}
spec: {{ports: [{{name: http, port: 80}}], endpoints: [{", ".join(endpoints)}]}}
"""


def endpoint(address: str, *, version: str = "v1", account: str = "web", tls: bool = True) -> str:
    tail = f"meshTls: {str(tls).lower()}, serviceAccount: {account}"
    return f"{{address: {address}, labels: {{app: web, version: {version}}}, {tail}}}"


def modes(*policies: str, endpoints: tuple[str, ...] = (endpoint("10.0.0.1"),)) -> PeerModes | None:
    model = Model()
    model.apply("---".join((service(*endpoints), *policies)))
    return Present(model.engine)(PEER_MODES, WEB)


def conditions(model: Model, name: str, namespace: str = "default") -> dict[str, tuple[bool, str]]:
    told = model.status("PeerAuthentication", name, namespace).conditions
    return {one.type: (one.status, one.reason) for one in told}


MESH = policy("mesh", "STRICT", namespace="fairlead-system")


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ((), None),
        ((MESH,), PeerModes("STRICT")),
        ((MESH, policy("ns", "DISABLE")), PeerModes("DISABLE")),
        ((MESH, policy("ns", "UNSET")), PeerModes("STRICT")),
        ((MESH, policy("ns", "PERMISSIVE")), None),
        ((MESH, policy("ns", "DISABLE"), policy("w", "PERMISSIVE", selector="app: web")), None),
        ((MESH, policy("w", "UNSET", selector="app: web")), PeerModes("STRICT")),
        ((MESH, policy("w", "DISABLE", selector="app: other")), PeerModes("STRICT")),
        ((policy("a", "STRICT", year=2025), policy("b", "DISABLE", year=2024)), PeerModes("DISABLE")),
        ((policy("b", "DISABLE"), policy("a", "STRICT")), PeerModes("STRICT")),
        (
            (policy("w", "STRICT", selector="app: web", ports='"80": {mode: DISABLE}, "81": {mode: UNSET}'),),
            PeerModes("STRICT", ((80, "DISABLE"),)),
        ),
        ((policy("w", "STRICT", namespace="fairlead-system", selector="app: web"),), None),
    ],
)
def test_the_narrowest_policy_counts_and_among_those_the_oldest(
    policies: tuple[str, ...], expected: PeerModes | None
) -> None:
    assert modes(*policies) == expected


def test_endpoints_that_would_differ_have_the_strictest_mode() -> None:
    two = (endpoint("10.0.0.1"), endpoint("10.0.0.2", version="v2"))
    assert modes(policy("w", "STRICT", selector="version: v2"), endpoints=two) == PeerModes("STRICT")
    assert modes(policy("w", "DISABLE", selector="version: v2"), endpoints=two) is None


def test_a_policy_is_told_that_it_does_not_count() -> None:
    model = Model()
    old = policy("old", "STRICT", year=2020)
    nothing = policy("nothing", "STRICT", selector="app: nobody")
    root = policy("root", "STRICT", namespace="fairlead-system", selector="app: web")
    first, second = policy("w1", "STRICT", selector="app: web", year=2020), policy("w2", "DISABLE", selector="app: web")
    model.apply(
        "---".join((service(endpoint("10.0.0.1")), policy("new", "DISABLE"), old, nothing, root, first, second))
    )
    assert conditions(model, "old") == {"Accepted": (True, "Accepted")}
    assert conditions(model, "new") == {"Accepted": (False, "Conflicted")}
    assert conditions(model, "nothing")["ResolvedRefs"] == (False, "TargetNotFound")
    assert conditions(model, "root", "fairlead-system") == {"Accepted": (False, "NotAllowed")}
    assert conditions(model, "w1")["Accepted"] == (True, "Accepted")
    assert conditions(model, "w2")["Accepted"] == (False, "Conflicted")
    model.delete("PeerAuthentication", "old")
    assert conditions(model, "new") == {"Accepted": (True, "Accepted")}


def test_clients_check_exactly_the_identities_of_endpoints_with_certificates() -> None:
    model = Model()
    some = [endpoint("10.0.0.1", account="b"), endpoint("10.0.0.2", account="a"), endpoint("10.0.0.3", account="a")]
    model.apply(service(*some, endpoint("10.0.0.4", account="plain", tls=False), endpoint("10.0.0.5", account="a/b")))
    row = Present(model.engine)(PEER_IDENTITIES, WEB)
    assert row is not None
    assert row.names == ("spiffe://cluster.local/ns/default/sa/a", "spiffe://cluster.local/ns/default/sa/b")
    commit = model.apply(service(endpoint("10.0.0.9", account="a"), endpoint("10.0.0.8", account="b")))
    assert PEER_IDENTITIES not in commit.changes
