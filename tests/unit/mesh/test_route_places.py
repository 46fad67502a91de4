"""Policies for Gateways, ListenerSets and listeners: which one counts behind which listener."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.attachments import ATTACHMENTS
from mesh.client_policies import CLIENT_RULES, NO_RULES
from mesh.gateways import GatewayKey
from mesh.kinds.clientpolicy import ClientSettings
from mesh.route_places import effective_at_places
from mesh.tables import Present
from mesh.telemetry_policies import NO_TELEMETRY, TELEMETRY_RULES
from mesh.validation import validate
from tests.support.model import Model
from tests.support.routing import document

GATEWAY_API = "gateway.networking.k8s.io"
EDGE = GatewayKey("default", "edge")


def listener(name: str, port: int, protocol: str = "HTTP", **more: Any) -> dict[str, Any]:
    return {"name": name, "port": port, "protocol": protocol, **more}


def world(*, own: int = 80, of_set: int = 81) -> Model:
    made = Model()
    allowed = {"namespaces": {"from": "All"}}
    listeners = [listener("own", own, allowedRoutes=allowed)]
    spec = {"gatewayClassName": "fairlead", "listeners": listeners, "allowedListeners": allowed}
    text = document("Gateway", "edge", spec)
    parent = {"name": "edge", "namespace": "default"}
    sets = {"parentRef": parent, "listeners": [listener("one", of_set, hostname="one.example.com")]}
    text += document("ListenerSet", "more", sets, namespace="teams")
    parents = [parent, {"kind": "ListenerSet", "name": "more"}]
    text += document("HTTPRoute", "r", {"parentRefs": parents, "rules": [{"name": "first"}, {}]}, namespace="teams")
    made.apply(text.rstrip().removesuffix("---"))
    return made


def declare(made: Model, kind: str, name: str, target: dict[str, str], namespace: str = "default", **spec: Any) -> None:
    text = document(kind, name, {"targetRefs": [target], **spec}, namespace=namespace)
    made.apply(text.rstrip().removesuffix("---"))


def gateway(section: str = "") -> dict[str, str]:
    return {"group": GATEWAY_API, "kind": "Gateway", "name": "edge", **({"sectionName": section} if section else {})}


def listener_set(section: str = "") -> dict[str, str]:
    part = {"sectionName": section} if section else {}
    return {"group": GATEWAY_API, "kind": "ListenerSet", "name": "more", **part}


def said(made: Model, path: str) -> dict[str, str]:
    """Which policy says a field of route `r`, and of its rule `first` where that differs, at each place."""
    told = effective_at_places(Present(made.engine), list(made.engine.rows(ATTACHMENTS).items()))
    return {
        f"{one.where}{f' {one.section}' if one.section else ''}": one.effective.said_by(path).name
        for one in told
        if any(origin.path == path for origin in one.effective.origins)
    }


def test_routes_inherit_from_the_listener_then_the_gateway_and_say_otherwise_themselves() -> None:
    made = world()
    declare(made, "RoutePolicy", "wide", gateway(), grpcWeb=False)
    assert said(made, "grpcWeb") == {"at Gateway default/edge": "wide"}
    declare(made, "RoutePolicy", "set", listener_set(), "teams", grpcWeb=True)
    declare(made, "RoutePolicy", "part", listener_set("one"), "teams", webSocket=False)
    assert said(made, "grpcWeb") == {
        "at Gateway default/edge": "wide",
        "at Gateway default/edge:teams~more~one": "set",
    }
    assert said(made, "webSocket") == {"at Gateway default/edge:teams~more~one": "part"}
    rule = {"group": GATEWAY_API, "kind": "HTTPRoute", "name": "r", "sectionName": "first"}
    declare(made, "RoutePolicy", "rule", rule, "teams", grpcWeb=True)
    assert said(made, "grpcWeb")["at Gateway default/edge first"] == "rule"
    made.delete("RoutePolicy", "wide")
    assert said(made, "grpcWeb") == {
        "at Gateway default/edge:teams~more~one": "set",
        "at Gateway default/edge:teams~more~one first": "rule",
    }


def test_a_gateways_overrides_hold_whatever_namespace_and_route_say_and_the_meshs_before_them() -> None:
    made = world()
    declare(made, "RoutePolicy", "wide", gateway(), overrides={"grpcWeb": False})
    declare(made, "RoutePolicy", "space", {"kind": "Namespace", "name": "teams"}, "teams", overrides={"grpcWeb": True})
    assert set(said(made, "grpcWeb").values()) == {"wide"}
    root = {"kind": "Namespace", "name": "fairlead-system"}
    declare(made, "RoutePolicy", "mesh", root, "fairlead-system", overrides={"grpcWeb": True})
    assert set(said(made, "grpcWeb").values()) == {"mesh"}


def settings(made: Model, name: str) -> ClientSettings:
    return (made.engine.get(CLIENT_RULES, EDGE) or NO_RULES).of_listener(name)


def test_a_listener_sets_owner_says_how_clients_are_spoken_to_at_ports_of_the_set_alone() -> None:
    made = world()
    declare(made, "ClientPolicy", "set", listener_set(), "teams", timeouts={"idle": "1m"})
    assert settings(made, "teams~more~one").timeouts is not None
    assert settings(made, "own").timeouts is None
    assert made.status("ClientPolicy", "set", "teams").conditions[0].message == ""


def test_and_says_nothing_of_a_port_that_others_listen_on_too() -> None:
    made = world(of_set=80)
    declare(made, "ClientPolicy", "set", listener_set("one"), "teams", timeouts={"idle": "1m"})
    declare(made, "TelemetryPolicy", "set", listener_set(), "teams", requestId={"preserve": True})
    for name in ("own", "teams~more~one"):
        assert settings(made, name).timeouts is None
        told = (made.engine.get(TELEMETRY_RULES, EDGE) or NO_TELEMETRY).of_listener(name)
        assert told.settings.request_id is None
    for kind in ("ClientPolicy", "TelemetryPolicy"):
        said = made.status(kind, "set", "teams").conditions[0].message
        assert said == "It has no effect on listener one, which shares port 80 with others."


def test_telemetry_of_a_listener_set_is_told_at_its_own_ports() -> None:
    made = world()
    declare(made, "TelemetryPolicy", "set", listener_set("one"), "teams", requestId={"preserve": True})
    told = (made.engine.get(TELEMETRY_RULES, EDGE) or NO_TELEMETRY).of_listener("teams~more~one")
    assert told.settings.request_id is not None


@pytest.mark.parametrize("kind", ["RoutePolicy", "ClientPolicy", "TelemetryPolicy"])
def test_a_set_or_a_listener_that_is_not_there_is_said(kind: str) -> None:
    made = world()
    spec = {"RoutePolicy": {"grpcWeb": True}, "ClientPolicy": {"timeouts": {"idle": "1m"}}}
    spec["TelemetryPolicy"] = {"requestId": {"preserve": True}}
    declare(made, kind, "p", listener_set("two"), "teams", **spec[kind])
    assert "ListenerSet teams/more has no listener two; it has: one." in str(made.status(kind, "p", "teams"))
    declare(made, kind, "q", {**listener_set(), "name": "absent"}, "teams", **spec[kind])
    assert "ListenerSet teams/absent does not exist." in str(made.status(kind, "q", "teams"))


def test_a_host_from_a_header_cannot_be_inherited_from_a_gateway() -> None:
    spec = {"targetRefs": [gateway()], "overrides": {"rewrite": {"host": {"fromHeader": "x-host"}}}}
    raw = {"apiVersion": "fairlead.dev/v1alpha1", "kind": "RoutePolicy", "metadata": {"name": "x"}, "spec": spec}
    assert [problem.path for problem in validate(raw).problems] == ["spec.overrides.rewrite.host"]
