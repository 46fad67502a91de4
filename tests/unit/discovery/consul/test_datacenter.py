"""What is believed of Consul's answers, and what stands."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from discovery.consul import catalog, wire
from discovery.consul.catalog import Rows, Rule
from discovery.consul.datacenter import DOUBT_SECONDS, Datacenter
from mesh.model import DISCOVERED_ENDPOINTS, DISCOVERED_SERVICES, DiscoveredServiceKey
from mesh.tables import Change

ALL = ("consul", "web", "db")


def entries(*addresses: str) -> Mapping[str, Rows]:
    raw = [
        {"Node": {"Address": "10.0.0.1", "Datacenter": "dc1"}, "Service": {"Service": "x", "Address": at, "Port": 80}}
        for at in addresses
    ]
    return catalog.rows(wire.entries(json.dumps(raw).encode()))


class Model:
    """The rows that come of the changes."""

    def __init__(self, datacenter: Datacenter) -> None:
        self.datacenter = datacenter
        self.rows: dict[Any, Any] = {}

    def take(self) -> tuple[Change, ...]:
        changes = self.datacenter.take()
        for change in changes:
            if change.row is None:
                del self.rows[change.table, change.key]
            else:
                self.rows[change.table, change.key] = change.row
        return changes

    def endpoints(self) -> dict[str, list[str]]:
        self.take()
        return {
            key.service: [each.address for each in row.endpoints]
            for (table, key), row in sorted(self.rows.items(), key=lambda item: str(item[0]))
            if table is DISCOVERED_ENDPOINTS
        }

    def stale(self) -> set[str]:
        self.take()
        return {key.name for (table, key), row in self.rows.items() if table is DISCOVERED_SERVICES and row.stale}


def told(*, names: Iterable[str] = ALL) -> Model:
    made = Datacenter("consul", Rule())
    made.listed(names, 0.0)
    for number, name in enumerate(names, 1):
        made.told(name, entries(f"10.0.0.{number}"), 0.0)
    return Model(made)


def test_rows_follow_what_is_told_and_equal_answers_change_nothing() -> None:
    model = told()
    assert model.endpoints() == {"consul": ["10.0.0.1"], "web": ["10.0.0.2"], "db": ["10.0.0.3"]}
    model.datacenter.told("web", entries("10.0.0.2"), 1.0)
    assert model.take() == ()
    model.datacenter.told("web", entries("10.0.0.9"), 1.0)
    assert [change.table for change in model.take()] == [DISCOVERED_ENDPOINTS]
    model.datacenter.listed(("consul", "web"), 2.0)
    assert set(model.endpoints()) == {"consul", "web"}


def test_service_without_instances_has_no_rows_once_it_is_told() -> None:
    model = told()
    model.datacenter.told("web", {}, 1.0)
    assert set(model.endpoints()) == {"consul", "db"}
    assert model.datacenter.knows("web")


def test_while_no_answer_comes_everything_stands_and_is_stale_until_it_is_told_again() -> None:
    model = told()
    model.datacenter.mark_all_stale()
    assert model.stale() == set(ALL)
    assert len(model.endpoints()) == 3
    model.datacenter.told("web", entries("10.0.0.2"), 1.0)
    assert model.stale() == {"consul", "db"}
    assert model.datacenter.stale == 2


def test_what_is_missing_after_the_index_went_back_counts_as_gone_only_when_it_stays_missing() -> None:
    model = told()
    model.datacenter.listed(("consul",), 10.0, went_back=True)
    assert set(model.endpoints()) == set(ALL)
    assert model.stale() == {"web", "db"}
    assert not model.datacenter.sweep(10.0 + DOUBT_SECONDS - 1)
    model.datacenter.listed(("consul", "web"), 12.0)
    model.datacenter.told("web", entries("10.0.0.2", "10.0.0.7"), 12.0)
    assert model.stale() == {"db"}
    assert model.datacenter.sweep(model.datacenter.doubted)
    assert model.endpoints() == {"consul": ["10.0.0.1"], "web": ["10.0.0.2", "10.0.0.7"]}


def test_instances_that_are_missing_after_the_index_went_back_stand_beside_those_that_are_back() -> None:
    model = told()
    model.datacenter.told("web", entries("10.0.0.1", "10.0.0.2", "10.0.0.3"), 1.0)
    model.datacenter.listed(ALL, 10.0, went_back=True)
    there = frozenset({("10.0.0.1", 80), ("10.0.0.2", 80)})
    model.datacenter.told("web", entries("10.0.0.1"), 11.0, there=lambda: there)
    assert model.endpoints()["web"] == ["10.0.0.1", "10.0.0.3"], "the second is there, and critical"
    assert model.stale() == {"web"}
    model.datacenter.told("web", entries("10.0.0.1", "10.0.0.9"), 12.0, there=lambda: there | {("10.0.0.9", 80)})
    assert model.endpoints()["web"] == ["10.0.0.1", "10.0.0.3", "10.0.0.9"]
    model.datacenter.sweep(10.0 + DOUBT_SECONDS - 1)
    assert model.stale() == {"web"}
    assert model.datacenter.doubted == 10.0 + DOUBT_SECONDS
    model.datacenter.sweep(10.0 + DOUBT_SECONDS)
    assert model.endpoints()["web"] == ["10.0.0.1", "10.0.0.9"]
    assert model.stale() == set()


def test_instances_that_are_all_back_before_the_doubt_is_over_are_fresh_then() -> None:
    model = told()
    model.datacenter.told("web", entries("10.0.0.1", "10.0.0.2"), 1.0)
    model.datacenter.told("web", entries("10.0.0.2"), 2.0, went_back=True)
    model.datacenter.told("web", entries("10.0.0.2"), 3.0)
    assert model.endpoints()["web"] == ["10.0.0.1", "10.0.0.2"]
    model.datacenter.told("web", entries("10.0.0.1", "10.0.0.2"), 4.0, there=lambda: frozenset({("10.0.0.1", 80)}))
    assert model.stale() == set()
    model.datacenter.told("web", entries("10.0.0.2"), 5.0)
    assert model.endpoints()["web"] == ["10.0.0.2"], "nothing is in doubt any more"


def test_empty_answer_whose_index_went_back_is_doubted_and_the_next_empty_one_too() -> None:
    model = told()
    model.datacenter.told("web", {}, 1.0, went_back=True)
    model.datacenter.told("web", {}, 2.0)
    assert "web" in model.endpoints()
    assert model.datacenter.sweep(1.0 + DOUBT_SECONDS)
    assert "web" not in model.endpoints()
    model.datacenter.told("web", entries("10.0.0.5"), 50.0)
    assert model.endpoints()["web"] == ["10.0.0.5"], "it was listed all the time"


def test_nothing_is_gone_when_the_token_has_lost_rights() -> None:
    model = told()
    model.datacenter.told("web", {}, 1.0)
    model.datacenter.told("web", entries("10.0.0.2"), 1.0)
    model.datacenter.listed((), 2.0)
    assert model.datacenter.rights_lost
    model.datacenter.told("db", {}, 2.0)
    assert not model.datacenter.sweep(10_000.0)
    assert set(model.endpoints()) == set(ALL)
    assert model.stale() == set(ALL)
    model.datacenter.listed(("consul", "web"), 3.0)
    model.datacenter.told("web", entries("10.0.0.2"), 3.0)
    model.datacenter.told("consul", entries("10.0.0.1"), 3.0)
    assert not model.datacenter.rights_lost
    model.datacenter.sweep(10_000.0)
    assert set(model.endpoints()) == {"consul", "web"}
    assert model.stale() == set()


def test_service_that_is_missing_at_the_same_index_is_hidden_from_the_token_and_stands_until_it_is_seen() -> None:
    model = told()
    model.datacenter.listed(("consul", "db"), 2.0, same_index=True)
    assert model.datacenter.rights_lost
    assert model.stale() == {"web"}
    model.datacenter.listed(("consul",), 3.0)
    assert set(model.endpoints()) == {"consul", "web"}, "another one that is missing at a new index is gone"
    assert model.datacenter.rights_lost
    model.datacenter.listed(("consul", "web"), 4.0, same_index=True)
    assert not model.datacenter.rights_lost


def test_token_that_never_saw_all_is_believed() -> None:
    model = told(names=("web", "db"))
    model.datacenter.listed(("web",), 1.0)
    assert set(model.endpoints()) == {"web"}


def test_names_that_cannot_be_names_are_left_out_and_told() -> None:
    made = Datacenter("consul", Rule())
    made.listed(("web", "Web_1", "a/b", ""), 0.0)
    assert made.names == {"web"}
    assert made.odd_names == ("", "Web_1", "a/b")


def test_copies_stand_in_and_what_is_not_there_any_more_leaves() -> None:
    before = told()
    before.take()
    fresh = Model(Datacenter("consul", Rule()))
    fresh.datacenter.restore(before.datacenter.all())
    assert fresh.endpoints() == before.endpoints()
    assert fresh.stale() == set(ALL)
    fresh.datacenter.listed(("consul", "web"), 0.0)
    assert set(fresh.endpoints()) == {"consul", "web"}
    assert fresh.stale() == {"consul", "web"}, "they are not told yet"


def test_datacenter_that_is_let_go_leaves_nothing() -> None:
    model = told()
    model.take()
    model.datacenter.clear()
    assert model.endpoints() == {}
    assert (DISCOVERED_SERVICES, DiscoveredServiceKey("consul", "default", "web")) not in model.rows


def test_what_is_to_be_left_out_has_no_rows_and_consul_itself_stays_for_it_tells_what_the_token_sees() -> None:
    datacenter = Datacenter("consul", Rule(exclude=("web-.*", "consul", "gone|away")))
    datacenter.listed(["web", "web-test", "my-web-test", "gone", "consul"], 0.0)
    assert datacenter.names == {"web", "my-web-test", "consul"}
    assert datacenter.odd_names == ()
    datacenter.listed(["web", "web-test"], 1.0)
    assert not datacenter.rights_lost, "nothing was told of, so nothing is held"
