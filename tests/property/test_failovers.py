"""Services that take over from each other come and go in any order: what Envoys are told is as from scratch."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.model import AUDIENCES, DECLARED, Audience, Connected, DeclaredKey
from mesh.tables import Change, Engine
from tests.property.test_tables import contents, fresh
from tests.support.model import declared, objects
from tests.support.routing import EDGE
from xds.resources import ResourceKey
from xds.schema.type_urls import TYPE_CLUSTER, TYPE_ENDPOINT
from xds.translate.cluster_tables import ASSIGNMENTS, CLUSTERS
from xds.translate.names import members_of
from xds.translate.tables import TABLES, VIEWS

SIDECAR = Audience("sidecar", "default", "cart", 8080, 15006, 15001)
BASE = """
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: fairlead
  listeners: [{name: http, port: 80, protocol: HTTP}, {name: tcp, port: 81, protocol: TCP}]
"""
SERVICES = ("a", "b", "c")
GRANT = """
kind: ReferenceGrant
metadata: {name: g, namespace: away}
spec: {from: [{group: fairlead.dev, kind: TrafficPolicy, namespace: default}], to: [{group: "", kind: Service}]}
"""


def _service(name: str, namespace: str, http: str, endpoint: str) -> str:
    ports = f"[{{name: http, port: 80, protocol: {http}}}, {{name: tcp, port: 90, protocol: TCP}}]"
    spec = f"{{ports: {ports}, endpoints: [{endpoint}]}}"
    return f"{{kind: Service, metadata: {{name: {name}, namespace: {namespace}}}, spec: {spec}}}"


def _policy(name: str, refs: list[str], more: str) -> str:
    spec = f"{{targetRefs: [{{kind: Service, name: {name}}}], failover: {{backendRefs: [{', '.join(refs)}]}}{more}}}"
    return f"{{kind: TrafficPolicy, metadata: {{name: {name}}}, spec: {spec}}}"


def _route(name: str) -> str:
    rules = f"[{{backendRefs: [{{name: {name}, port: 80}}]}}]"
    spec = f"{{parentRefs: [{{name: edge, sectionName: http}}], hostnames: [{name}.org], rules: {rules}}}"
    return f"{{kind: HTTPRoute, metadata: {{name: {name}}}, spec: {spec}}}"


def _stream(name: str) -> str:
    spec = f"{{parentRefs: [{{name: edge, sectionName: tcp}}], rules: [{{backendRefs: [{{name: {name}, port: 90}}]}}]}}"
    return f"{{kind: TCPRoute, metadata: {{name: {name}}}, spec: {spec}}}"


names = st.sampled_from(SERVICES)
refs = st.one_of(
    names.map(lambda name: f"{{name: {name}}}"),
    names.map(lambda name: f"{{name: {name}, port: 80}}"),
    names.map(lambda name: f"{{name: {name}, namespace: away}}"),
)
endpoints = st.sampled_from(("", "{address: 10.0.0.1}", "{address: 10.0.0.2}", "{address: by.name}"))
documents = st.one_of(
    st.builds(
        _service, names, st.sampled_from(("default", "away")), st.sampled_from(("HTTP", "HTTP2", "TLS")), endpoints
    ),
    st.builds(
        _policy,
        names,
        st.lists(refs, min_size=1, max_size=3, unique=True),
        st.sampled_from(("", ", retry: {attempts: 1}")),
    ),
    names.map(_route),
    names.map(_stream),
    st.just(GRANT),
)
gone = st.builds(
    lambda kind, name, namespace: (kind, namespace, name),
    st.sampled_from(("Service", "TrafficPolicy", "HTTPRoute", "TCPRoute")),
    names,
    st.sampled_from(("default", "away")),
)
steps = st.lists(st.one_of(documents, gone), min_size=10, max_size=40)


def _change(step: str | tuple[str, str, str]) -> Change:
    if isinstance(step, tuple):
        return Change(DECLARED, DeclaredKey(*step, "files"), None)
    (one,) = objects(step)
    return declared(one)


def _whole(engine: Engine) -> None:
    """Whoever sees a cluster with failover sees all that is behind it, with its endpoints."""
    clusters = engine.rows(CLUSTERS)
    for key, view in engine.rows(VIEWS).items():
        if key.type_url != TYPE_CLUSTER:
            continue
        seen = {at.name for at in view.keys}
        for name in seen:
            assert seen.issuperset(members_of(name))
            for member in members_of(name):
                row = clusters[ResourceKey(TYPE_CLUSTER, member)]
                assert not row.eds or ResourceKey(TYPE_ENDPOINT, member) in engine.rows(ASSIGNMENTS)


@settings(max_examples=100, deadline=None)
@given(steps)
def test_services_that_take_over_from_each_other_are_told_as_from_scratch(given_steps: list[Any]) -> None:
    engine = Engine(TABLES)
    base = [BASE, *(_service(name, "default", "HTTP", "{address: 10.0.0.3}") for name in SERVICES)]
    engine.commit([_change(one) for one in base])
    engine.commit([Change(AUDIENCES, one, Connected()) for one in (EDGE, SIDECAR)])
    for step in given_steps:
        engine.commit([_change(step)])
        assert engine.faults == {}
        _whole(engine)
    assert contents(engine, TABLES) == contents(fresh(engine, TABLES), TABLES)
