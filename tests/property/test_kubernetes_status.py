"""Patches of statuses: what others wrote stays whatever it is, and after our patch there is nothing left to write."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from discovery.kubernetes.status import MOST_ANCESTORS, MOST_CONDITIONS, MOST_PARENTS, OWN_TYPES, changes
from mesh.conditions import Condition
from mesh.kinds.gatewayclass import CONTROLLER_NAME
from mesh.kinds.references import ParentReference
from mesh.status import AncestorStatus, ListenerStatus, ParentStatus, Status

JSON = dict[str, Any]
TYPES = st.sampled_from([*sorted(OWN_TYPES), "example.com/Audited", "Ready"])
NAMES = st.sampled_from("abc")
WORDS = st.sampled_from(["", "word", "other"])
VERDICTS = st.sampled_from(["True", "False", "Unknown"])


def unique(items: list[Any], key: Any) -> list[Any]:
    return list({key(item): item for item in items}.values())


HELD_CONDITIONS = st.lists(
    st.fixed_dictionaries(
        {"type": TYPES, "status": VERDICTS, "reason": st.just("R"), "message": WORDS},
        optional={"lastTransitionTime": st.just("2025-01-01T00:00:00Z"), "observedGeneration": st.integers(0, 3)},
    ),
    max_size=7,
).map(lambda items: unique(items, lambda item: item["type"]))
HELD_LISTENERS = st.lists(
    st.fixed_dictionaries(
        {"name": NAMES, "attachedRoutes": st.integers(0, 3), "conditions": HELD_CONDITIONS},
        optional={"future": st.just(1)},
    ),
    max_size=3,
).map(lambda items: unique(items, lambda item: item["name"]))
REFS = st.fixed_dictionaries(
    {"name": NAMES},
    optional={
        "group": st.sampled_from(["", "gateway.networking.k8s.io"]),
        "kind": st.sampled_from(["Gateway", "Service"]),
        "namespace": st.sampled_from(["default", "infra"]),
        "port": st.integers(80, 81),
        "sectionName": NAMES,
    },
)
HELD_PARENTS = st.lists(
    st.fixed_dictionaries(
        {
            "parentRef": REFS,
            "controllerName": st.sampled_from([CONTROLLER_NAME, "example.com/x"]),
            "conditions": HELD_CONDITIONS,
        }
    ),
    max_size=MOST_PARENTS,
)
HELD_ANCESTORS = st.lists(
    st.fixed_dictionaries(
        {
            "ancestorRef": REFS,
            "controllerName": st.sampled_from([CONTROLLER_NAME, "example.com/x"]),
            "conditions": HELD_CONDITIONS,
        }
    ),
    max_size=MOST_ANCESTORS,
)
HELD = st.fixed_dictionaries(
    {},
    optional={
        "ancestors": HELD_ANCESTORS,
        "conditions": HELD_CONDITIONS,
        "listeners": HELD_LISTENERS,
        "parents": HELD_PARENTS,
        "addresses": st.lists(st.fixed_dictionaries({"type": st.just("IPAddress"), "value": NAMES}), max_size=2),
        "supportedFeatures": st.lists(st.fixed_dictionaries({"name": NAMES}), max_size=2),
        "future": st.just({"a": [1]}),
    },
)
OURS = st.lists(
    st.builds(Condition, st.sampled_from(sorted(OWN_TYPES)), st.booleans(), st.just("R"), WORDS), min_size=1, max_size=4
).map(lambda items: tuple(unique(items, lambda item: item.type)))
WANTED = st.builds(
    Status,
    observed_generation=st.integers(0, 3),
    conditions=OURS,
    addresses=st.lists(NAMES, unique=True, max_size=2).map(tuple),
    listeners=st.lists(st.builds(ListenerStatus, NAMES, st.integers(0, 3), st.just(()), OURS), max_size=3).map(
        lambda items: tuple(unique(items, lambda item: item.name))
    ),
    parents=st.lists(st.builds(ParentStatus, st.builds(ParentReference, name=NAMES), OURS), max_size=3).map(tuple),
    ancestors=st.lists(st.builds(AncestorStatus, st.builds(ParentReference, name=NAMES), OURS), max_size=3).map(tuple),
    supported_features=st.lists(NAMES, unique=True, max_size=2).map(lambda names: tuple(sorted(names))),
)
KINDS = st.sampled_from(["Gateway", "GatewayClass", "HTTPRoute", "Service", "BackendTLSPolicy"])


def foreign(conditions: list[JSON]) -> list[JSON]:
    return [one for one in conditions if one["type"] not in OWN_TYPES]


def merged(present: JSON, patch: JSON | None) -> JSON:
    return {name: value for name, value in {**present, **(patch or {})}.items() if value is not None}


@given(kind=KINDS, wanted=st.none() | WANTED, former=st.none() | WANTED, present=HELD)
def test_what_others_wrote_stays_and_a_second_patch_is_none(
    kind: str, wanted: Status | None, former: Status | None, present: JSON
) -> None:
    before = copy.deepcopy(present)
    patch = changes(kind, "default", wanted, present, now="2026-01-01T00:00:00Z", former=former)
    assert present == before, "the present status is not changed in place"
    after = merged(present, patch)
    assert changes(kind, "default", wanted, copy.deepcopy(after), now="2027-01-01T00:00:00Z", former=former) is None
    assert after.get("future") == before.get("future")
    assert foreign(after.get("conditions", [])) == foreign(before.get("conditions", []))
    for field in ("parents", "ancestors"):
        assert [one for one in after.get(field, []) if one["controllerName"] != CONTROLLER_NAME] == [
            one for one in before.get(field, []) if one["controllerName"] != CONTROLLER_NAME
        ]
    held = {one["name"]: one for one in before.get("listeners", [])}
    for one in after.get("listeners", []):
        assert foreign(one["conditions"]) == foreign(held.get(one["name"], {"conditions": []})["conditions"])
    assert len(after.get("parents", [])) <= MOST_PARENTS
    assert len(after.get("ancestors", [])) <= MOST_ANCESTORS
    assert all(len(one["conditions"]) <= MOST_CONDITIONS for one in after.get("listeners", []))


@given(kind=KINDS, wanted=WANTED, present=HELD)
def test_a_time_of_transition_changes_only_with_its_verdict(kind: str, wanted: Status, present: JSON) -> None:
    patch = changes(kind, "default", wanted, present, now="2026-01-01T00:00:00Z")
    before = {one["type"]: one for one in present.get("conditions", [])}
    for one in (patch or {}).get("conditions") or []:
        held = before.get(one["type"])
        if held is not None and held["status"] == one["status"] and "lastTransitionTime" in held:
            assert one["lastTransitionTime"] == held["lastTransitionTime"]
