from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from fairlead.lanes import Lanes
from mesh.kinds.meta import ObjectMeta
from mesh.kinds.service import Service, ServiceEndpoint, ServicePort, ServiceSpec
from mesh.model import (
    AUDIENCES,
    DECLARED,
    DISCOVERED_ENDPOINTS,
    Audience,
    Connected,
    Declared,
    DeclaredKey,
    DiscoveredEndpoints,
    DiscoveredEndpointsKey,
    ObjectKey,
)
from mesh.results import RESULTS, Result, ResultKey
from mesh.tables import Change

KEY = DeclaredKey("Service", "default", "reviews", "store")
OTHER = DeclaredKey("Service", "default", "ratings", "store")
MOVED = Change(DISCOVERED_ENDPOINTS, DiscoveredEndpointsKey("k", "default", "a", "1"), DiscoveredEndpoints(()))

MADE = Change(RESULTS, ResultKey(ObjectKey("EnvoyPatch", "default", "a"), "listener"), Result())


def service(*addresses: str, port: int = 80, revision: str = "1") -> Declared:
    return Declared(
        Service(
            api_version="fairlead.dev/v1alpha1",
            kind="Service",
            metadata=ObjectMeta(name="reviews", namespace="default", resource_version=revision),
            spec=ServiceSpec(
                ports=(ServicePort(port=port),), endpoints=tuple(ServiceEndpoint(address=each) for each in addresses)
            ),
        )
    )


def lanes() -> Lanes:
    return Lanes(quiet_period=1, quiet_period_max=5)


def put(made: Lanes, row: Any, *, present: Any, now: float) -> Change:
    change = Change(DECLARED, KEY, row)
    made.add(change, present=present, now=now)
    return change


@pytest.mark.parametrize("change", [MOVED, MADE], ids=["endpoint", "result"])
def test_what_makes_requests_fail_or_statuses_lie_while_it_is_old_is_due_at_once(change: Change) -> None:
    made = lanes()
    made.add(change, present=None, now=10)
    assert made.due() == 10
    batch = made.take(10)
    assert batch is not None
    assert (batch.changes, batch.since) == ((change,), 10)
    assert made.due() is None


def test_a_service_object_of_which_only_endpoints_changed_is_due_at_once() -> None:
    made = lanes()
    change = put(made, service("10.0.0.2", revision="2"), present=service("10.0.0.1"), now=0)
    batch = made.take(0)
    assert batch is not None
    assert batch.changes == (change,)


def test_a_service_object_that_is_new_or_gone_or_has_another_port_waits() -> None:
    for row, present in ((service("1.1.1.1"), None), (None, service("1.1.1.1")), (service(port=81), service())):
        made = lanes()
        put(made, row, present=present, now=0)
        assert made.take(0.9) is None
        assert made.take(1) is not None


def test_a_proxy_that_came_does_not_wait() -> None:
    made = lanes()
    made.add(Change(AUDIENCES, Audience("gateway", "default", "edge"), Connected()), present=None, now=0)
    assert made.take(0) is not None


def test_each_further_change_prolongs_the_quiet_period_but_never_beyond_the_maximum() -> None:
    made = lanes()
    for now in (0.0, 0.9, 1.8, 2.7, 3.6, 4.5):
        put(made, service(port=1 + int(now)), present=None, now=now)
        assert made.take(now) is None
    assert made.due() == 5
    batch = made.take(5)
    assert batch is not None
    assert batch.since == 0


def test_an_endpoint_change_does_not_take_waiting_changes_with_it() -> None:
    made = lanes()
    waiting = put(made, service(), present=None, now=0)
    made.add(MOVED, present=None, now=0.5)
    first, second = made.take(0.5), made.take(1.0)
    assert first is not None
    assert second is not None
    assert (first.changes, second.changes) == ((MOVED,), (waiting,))


def test_of_two_changes_of_one_row_only_the_later_is_kept_and_it_does_not_overtake_itself() -> None:
    made = lanes()
    put(made, service("10.0.0.1", port=81), present=service("10.0.0.1"), now=0)
    last = put(made, service("10.0.0.2"), present=service("10.0.0.1"), now=0.1)
    assert made.take(0.2) is None, "the row waits already: the newer state waits in its place"
    batch = made.take(2)
    assert batch is not None
    assert batch.changes == (last,)


def test_a_waiting_kind_of_change_replaces_a_swift_one_of_the_same_row() -> None:
    made = lanes()
    put(made, service("10.0.0.2"), present=service("10.0.0.1"), now=0)
    last = put(made, None, present=service("10.0.0.1"), now=0)
    assert made.take(0) is None
    batch = made.take(1)
    assert batch is not None
    assert batch.changes == (last,)


def test_a_put_of_new_endpoints_over_a_service_from_a_file_is_due_at_once() -> None:
    made = lanes()
    stamped = service("10.0.0.2")
    metadata = replace(stamped.object.metadata, creation_timestamp="2026-11-23T06:00:00Z")
    put(made, Declared(replace(stamped.object, metadata=metadata), "store@1"), present=service("10.0.0.1"), now=0)
    assert made.take(0) is not None


def test_a_change_of_one_object_out_of_the_quiet_goes_at_once_and_what_follows_it_waits() -> None:
    made = lanes()
    first, second = Change(DECLARED, KEY, service(port=81)), Change(DECLARED, OTHER, service(port=82))
    made.add(first, present=service(), now=10, alone=True)
    made.add(second, present=service(), now=10.5, alone=True)
    batch = made.take(10.5)
    assert batch is not None
    assert batch.changes == (first,)
    assert made.due() == 11.5


def test_what_waits_is_not_overtaken_by_a_change_that_may_build_on_it() -> None:
    made = lanes()
    new, changed = Change(DECLARED, OTHER, service()), Change(DECLARED, KEY, service(port=81))
    made.add(new, present=None, now=10, alone=True)
    made.add(changed, present=service(), now=10.1, alone=True)
    assert made.take(10.1) is None
    batch = made.take(11.1)
    assert batch is not None
    assert batch.changes == (new, changed)


def test_objects_that_come_together_stay_together() -> None:
    made = lanes()
    for key in (KEY, OTHER):
        made.add(Change(DECLARED, key, service(port=81)), present=service(), now=10)
    assert made.take(10) is None
    batch = made.take(11)
    assert batch is not None
    assert len(batch.changes) == 2
