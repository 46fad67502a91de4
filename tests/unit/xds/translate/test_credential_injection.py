"""Who gets a credential: the gateways whose own routes send it, and nobody else."""

from __future__ import annotations

from mesh.model import AUDIENCES, Audience, Connected
from mesh.tables import Change, Engine
from tests.support.model import declared, objects
from tests.support.routing import document, gateway, route, service
from xds.schema.type_urls import TYPE_SECRET
from xds.translate.offline import translated
from xds.translate.tables import TABLES

EDGE = Audience("gateway", "default", "edge")
OTHER = Audience("gateway", "default", "other")
SIDECAR = Audience("sidecar", "default", "client", egress_port=15001)
ROUTE = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "route"}
RULES = "\n  - backendRefs: [{name: echo, port: 80}]"


def secret(namespace: str = "default") -> str:
    spec = document("Secret", "tokens", {}, namespace=namespace)
    return spec.replace('"spec": {}', '"stringData": {"a": "s3cret"}')


def injecting(target: dict[str, str], namespace: str = "default") -> str:
    spec = {"targetRefs": [target], "credentialInjection": {"secret": {"name": "tokens", "key": "a"}}}
    return document("RoutePolicy", "token", spec, namespace=namespace)


def engine_of(*texts: str) -> Engine:
    text = "".join((gateway(80), gateway(81).replace('"edge"', '"other"'), service("echo", 1), route(RULES), *texts))
    engine = Engine(TABLES)
    changes = [declared(each) for each in objects(text.rstrip().removesuffix("---"))]
    connected = [Change(AUDIENCES, each, Connected()) for each in (EDGE, OTHER, SIDECAR)]
    engine.commit([*changes, *connected])
    assert engine.faults == {}
    return engine


def secrets(engine: Engine, audience: Audience) -> list[str]:
    return [each["name"] for each in translated(engine, audience)[TYPE_SECRET] if "generic_secret" in each]


def test_only_gateways_whose_routes_send_a_credential_get_it() -> None:
    engine = engine_of(secret(), injecting(ROUTE))
    assert secrets(engine, EDGE) == ["~credentials/default/token"]
    assert secrets(engine, OTHER) == secrets(engine, SIDECAR) == []


def test_a_credential_that_no_route_sends_goes_nowhere() -> None:
    engine = engine_of(secret(), injecting({**ROUTE, "name": "another"}))
    assert secrets(engine, EDGE) == []


def test_a_credential_of_the_root_namespace_is_not_for_routes_of_others() -> None:
    root = "fairlead-system"
    engine = engine_of(secret(root), injecting({"kind": "Namespace", "name": root}, root))
    found = translated(engine, EDGE)
    assert secrets(engine, EDGE) == []
    assert '"status": 500' in str(found).replace("'", '"')
