from __future__ import annotations

from mesh.model import AUDIENCES, Audience, Connected
from mesh.needs import Needs
from mesh.tables import Change
from tests.support.model import Model

ROUTE = """
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{name: edge}]
  rules:
  - filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: shadow, port: 80}}}
    - {type: ExternalAuth, externalAuth: {protocol: HTTP, http: {}, backendRef: {name: judge, port: 80}}}
    backendRefs: [{name: web, port: 80}, {group: fairlead.dev, kind: ServiceSubset, name: v2, port: 80}]
"""
SUBSET = """
kind: ServiceSubset
metadata: {name: v2}
spec: {service: canary, labels: {version: v2}}
"""
POLICY = """
kind: TrafficPolicy
metadata: {name: p}
spec: {targetRefs: [{kind: Service, name: slow}], failover: {backendRefs: [{name: spare}]}}
"""


def test_services_that_objects_name_are_needed_for_as_long_as_they_do() -> None:
    model, needs = Model(), Needs()
    assert needs.committed(model.apply(ROUTE))
    assert needs.names == {"web", "shadow", "judge"}
    assert needs.committed(model.apply(SUBSET))
    assert needs.committed(model.apply(POLICY))
    assert needs.names == {"web", "shadow", "judge", "canary", "slow", "spare"}
    assert not needs.committed(model.apply(POLICY))
    assert needs.committed(model.delete("HTTPRoute", "web"))
    assert needs.names == {"canary", "slow", "spare"}


def test_all_are_needed_while_there_are_sidecars_or_proxyless_clients() -> None:
    model, needs = Model(), Needs()
    gateway, client = Audience("gateway", "default", "edge"), Audience("grpc", "default")
    assert not needs.committed(model.engine.commit([Change(AUDIENCES, gateway, Connected())]))
    assert needs.names == frozenset()
    assert needs.committed(model.engine.commit([Change(AUDIENCES, client, Connected())]))
    assert needs.names is None
    assert needs.committed(model.engine.commit([Change(AUDIENCES, client, None)]))
    assert needs.names == frozenset()
