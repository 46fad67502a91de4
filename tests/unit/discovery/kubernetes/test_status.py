from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from discovery.kubernetes.status import OWN_TYPES, changes, says_the_same
from mesh.conditions import Condition
from mesh.kinds.gatewayclass import CONTROLLER_NAME
from mesh.kinds.references import ParentReference
from mesh.listeners import RouteKind
from mesh.status import ListenerStatus, ParentStatus, Status

GOLDEN = Path(__file__).parents[3] / "golden"
NOW = "2026-02-03T04:05:06Z"
BEFORE = "2025-01-01T00:00:00Z"
JSON = dict[str, Any]
FOREIGN: JSON = {
    "type": "example.com/Audited",
    "status": "True",
    "reason": "Yes",
    "message": "",
    "lastTransitionTime": BEFORE,
}
ACCEPTED = Condition("Accepted", True, "Accepted")
KIND = RouteKind("gateway.networking.k8s.io", "HTTPRoute")
GATEWAY = Status(
    observed_generation=3,
    conditions=(ACCEPTED, Condition("Programmed", True, "Programmed")),
    addresses=("10.0.0.1",),
    listeners=(ListenerStatus("http", 2, (KIND,), (ACCEPTED,)), ListenerStatus("tls", 0, (KIND,), (ACCEPTED,))),
)
ROUTE = Status(
    observed_generation=3,
    parents=(
        ParentStatus(ParentReference(name="edge"), (ACCEPTED,)),
        ParentStatus(ParentReference(name="edge", namespace="infra", section_name="tls"), (ACCEPTED,)),
    ),
)
THEIRS: JSON = {
    "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"},
    "controllerName": "example.com/x",
    "conditions": [FOREIGN],
}


def condition(kind: str = "Accepted", status: str = "True", **fields: Any) -> JSON:
    return {
        "type": kind,
        "status": status,
        "reason": kind,
        "message": "",
        "observedGeneration": 3,
        "lastTransitionTime": BEFORE,
        **fields,
    }


def written(kind: str, wanted: Status | None, present: JSON, *, former: Status | None = None) -> JSON:
    """The status after our patch, as a merge patch has it; and a second decision finds nothing to write."""
    after = apply(present, changes(kind, "default", wanted, copy.deepcopy(present), now=NOW, former=former))
    assert changes(kind, "default", wanted, after, now="2027-01-01T00:00:00Z", former=former) is None
    return after


def apply(present: JSON, patch: JSON | None) -> JSON:
    merged = {**present, **(patch or {})}
    return {field: value for field, value in merged.items() if value is not None}


def test_a_first_status_is_written_whole() -> None:
    after = written("Gateway", GATEWAY, {})
    assert after["conditions"] == [
        condition(lastTransitionTime=NOW),
        condition("Programmed", lastTransitionTime=NOW),
    ]
    assert after["addresses"] == [{"type": "IPAddress", "value": "10.0.0.1"}]
    assert [(one["name"], one["attachedRoutes"]) for one in after["listeners"]] == [("http", 2), ("tls", 0)]
    assert "shadowed" not in after


def test_the_default_of_the_crd_gives_way_with_a_time_of_transition() -> None:
    pending = condition(status="Unknown", reason="Pending", lastTransitionTime="1970-01-01T00:00:00Z")
    after = written("Gateway", GATEWAY, {"conditions": [pending]})
    assert after["conditions"][0] == condition(lastTransitionTime=NOW)


def test_only_the_fields_that_differ_are_written() -> None:
    present = written("Gateway", GATEWAY, {})
    more = msgspec.structs.replace(
        GATEWAY, listeners=(msgspec.structs.replace(GATEWAY.listeners[0], attached_routes=3), GATEWAY.listeners[1])
    )
    patch = changes("Gateway", "default", more, present, now=NOW)
    assert patch is not None
    assert list(patch) == ["listeners"]


@pytest.mark.parametrize(
    ("held", "since"),
    [
        (condition(), BEFORE),
        (condition(message="other words", reason="Else", observedGeneration=2), BEFORE),
        (condition(status="False"), NOW),
        (condition(status="Unknown"), NOW),
        ({"type": "Accepted", "status": "True"}, NOW),
    ],
)
def test_the_time_of_transition_changes_with_the_verdict_and_with_nothing_else(held: JSON, since: str) -> None:
    after = written("Gateway", GATEWAY, {"conditions": [held]})
    assert after["conditions"][0] == condition(lastTransitionTime=since)


def test_conditions_of_other_types_stay_where_they_are() -> None:
    listener = {"name": "http", "attachedRoutes": 0, "conditions": [FOREIGN, condition(status="False")]}
    after = written("Gateway", GATEWAY, {"conditions": [FOREIGN, condition()], "listeners": [listener]})
    assert after["conditions"] == [FOREIGN, condition(), condition("Programmed", lastTransitionTime=NOW)]
    assert after["listeners"][0]["conditions"] == [FOREIGN, condition(lastTransitionTime=NOW)]


def test_a_condition_of_ours_that_holds_no_more_goes() -> None:
    route = {"parents": [{**THEIRS, "controllerName": CONTROLLER_NAME, "conditions": [condition(), FOREIGN]}]}
    route["parents"][0]["conditions"].append(condition("Programmed", "False"))
    after = written("HTTPRoute", ROUTE, route)
    assert after["parents"][0]["conditions"] == [condition(), FOREIGN]


def test_every_condition_that_we_write_is_known_as_ours_and_stands_once() -> None:
    told = {
        condition["type"]
        for case in sorted(GOLDEN.glob("*/out.yaml"))
        for status in yaml.load(case.read_text(), Loader=yaml.CSafeLoader)["statuses"].values()
        for part in (status, *status.get("listeners", ()), *status.get("parents", ()))
        for condition in part.get("conditions", ())
    }
    assert "InsecureFrontendValidationMode" in told
    assert told <= OWN_TYPES


def test_the_status_of_a_listener_ends_with_the_listener() -> None:
    present = written("Gateway", GATEWAY, {})
    fewer = msgspec.structs.replace(GATEWAY, listeners=GATEWAY.listeners[1:])
    assert [one["name"] for one in written("Gateway", fewer, present)["listeners"]] == ["tls"]


def test_an_address_that_is_no_more_goes() -> None:
    present = written("Gateway", GATEWAY, {})
    assert "addresses" not in written("Gateway", msgspec.structs.replace(GATEWAY, addresses=()), present)


def test_parents_of_other_controllers_stay_as_they_are_and_ours_keep_their_place() -> None:
    present = written("HTTPRoute", ROUTE, {"parents": [THEIRS]})
    assert present["parents"][0] == THEIRS
    assert [one["controllerName"] for one in present["parents"][1:]] == [CONTROLLER_NAME, CONTROLLER_NAME]
    one = msgspec.structs.replace(ROUTE, parents=ROUTE.parents[1:])
    after = written("HTTPRoute", one, {"parents": [*present["parents"][1:], THEIRS]})
    assert after["parents"] == [present["parents"][2], THEIRS]


def test_a_parent_is_known_again_however_its_reference_is_spelled() -> None:
    short = {"name": "edge", "namespace": "default"}
    present = {"parents": [{"parentRef": short, "controllerName": CONTROLLER_NAME, "conditions": [condition()]}]}
    after = written("HTTPRoute", ROUTE, present)
    assert after["parents"][0]["conditions"][0]["lastTransitionTime"] == BEFORE
    assert after["parents"][0]["parentRef"] == {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "name": "edge",
    }


def test_what_the_api_server_fills_in_is_no_difference() -> None:
    after = written("HTTPRoute", ROUTE, {})
    assert after["parents"][1]["parentRef"] == {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "name": "edge",
        "namespace": "infra",
        "sectionName": "tls",
    }


def test_a_route_that_is_not_ours_any_more_keeps_the_entries_of_others_only() -> None:
    present = written("HTTPRoute", ROUTE, {"parents": [THEIRS]})
    assert written("HTTPRoute", None, present) == {"parents": [THEIRS]}
    assert written("HTTPRoute", Status(), present) == {"parents": [THEIRS]}
    assert written("HTTPRoute", None, {}) == {}


def test_a_gateway_that_is_not_ours_any_more_loses_what_still_reads_as_we_wrote_it() -> None:
    present = written("Gateway", GATEWAY, {"conditions": [FOREIGN]})
    assert written("Gateway", None, present, former=GATEWAY) == {"conditions": [FOREIGN]}
    assert written("Gateway", None, written("Gateway", GATEWAY, {}), former=GATEWAY) == {}


def test_what_another_controller_wrote_since_is_its_own() -> None:
    theirs = written("Gateway", GATEWAY, {})
    theirs["conditions"] = [condition(message="ours now"), condition("Programmed", "False")]
    theirs["addresses"] = [{"type": "IPAddress", "value": "10.9.9.9"}]
    theirs["listeners"] = [{"name": "http", "attachedRoutes": 9, "conditions": [condition(reason="Theirs")]}]
    assert written("Gateway", None, theirs, former=GATEWAY) == theirs


def test_a_foreign_gateway_of_which_we_only_say_who_shadows_it_is_left_alone() -> None:
    present = {"conditions": [condition()], "addresses": [{"value": "10.1.1.1"}]}
    assert changes("Gateway", "default", Status(shadowed=("files: shadowed",)), present, now=NOW) is None
    assert changes("Gateway", "default", None, present, now=NOW) is None


def test_a_gateway_class_tells_its_features() -> None:
    ours = Status(conditions=(ACCEPTED,), supported_features=("Gateway", "HTTPRoute"))
    after = written("GatewayClass", ours, {"supportedFeatures": [{"name": "Magic"}]})
    assert after["supportedFeatures"] == [{"name": "Gateway"}, {"name": "HTTPRoute"}]


def test_what_the_crds_do_not_hold_is_not_written() -> None:
    many = msgspec.structs.replace(
        ROUTE,
        parents=tuple(ParentStatus(ParentReference(name=f"g{at}"), (ACCEPTED,)) for at in range(32)),
    )
    after = written("HTTPRoute", many, {"parents": [THEIRS, THEIRS]})
    assert len(after["parents"]) == 32
    assert after["parents"][:2] == [THEIRS, THEIRS]
    listeners = tuple(ListenerStatus(f"l{at}", 0, (KIND,), (ACCEPTED,)) for at in range(65))
    after = written("Gateway", msgspec.structs.replace(GATEWAY, listeners=listeners), {})
    assert len(after["listeners"]) == 64
    addresses = tuple(f"10.0.0.{at}" for at in range(17))
    after = written("Gateway", msgspec.structs.replace(GATEWAY, addresses=addresses), {})
    assert len(after["addresses"]) == 16
    crowd = [{**FOREIGN, "type": f"example.com/{at}"} for at in range(7)]
    after = written("Gateway", GATEWAY, {"conditions": crowd})
    assert after["conditions"] == [*crowd, condition(lastTransitionTime=NOW)]


def test_a_message_of_any_length_fits_into_a_status() -> None:
    long = Condition("Accepted", False, "Invalid", "x" * 100_000)
    after = written("Gateway", msgspec.structs.replace(GATEWAY, conditions=(long,)), {})
    assert len(after["conditions"][0]["message"]) == 2_000


def test_a_count_can_wait_and_a_verdict_cannot() -> None:
    more = msgspec.structs.replace(
        GATEWAY,
        observed_generation=4,
        listeners=(ListenerStatus("http", 9, (KIND,), (ACCEPTED,)), GATEWAY.listeners[1]),
    )
    assert says_the_same(GATEWAY, more)
    assert not says_the_same(GATEWAY, msgspec.structs.replace(GATEWAY, conditions=GATEWAY.conditions[:1]))
    assert not says_the_same(GATEWAY, msgspec.structs.replace(GATEWAY, addresses=()))
    assert not says_the_same(ROUTE, msgspec.structs.replace(ROUTE, parents=ROUTE.parents[:1]))
    assert not says_the_same(None, GATEWAY)
    assert not says_the_same(GATEWAY, None)
    assert says_the_same(None, None)
