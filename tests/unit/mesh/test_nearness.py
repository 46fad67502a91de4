"""Which endpoints come first for clients of a zone."""

from __future__ import annotations

from mesh.model import Endpoint, Health, Locality
from mesh.nearness import nearest_first, nearest_to_node, nodes_apart, zones_apart


def endpoint(last: int, *zones: str, at: str = "", health: Health = "Healthy", priority: int = 0) -> Endpoint:
    locality = Locality(zone=at)
    return Endpoint(f"10.0.0.{last}", (), for_zones=zones, locality=locality, health=health, priority=priority)


def order(endpoints: list[Endpoint]) -> dict[str, int]:
    return {each.address.rpartition(".")[2]: each.priority for each in endpoints}


def test_hints_set_zones_apart_only_where_every_endpoint_that_takes_traffic_has_them() -> None:
    assert zones_apart([endpoint(1, "a"), endpoint(2, "b", "c")]) == {"a", "b", "c"}
    assert zones_apart([endpoint(1, "a"), endpoint(2)]) == frozenset()
    assert zones_apart([endpoint(1, "a"), endpoint(2, health="Draining")]) == {"a"}
    assert zones_apart([endpoint(1, "a", health="Draining")]) == frozenset()
    assert zones_apart([]) == frozenset()


def test_those_for_the_zone_come_first_and_the_others_stand_behind_them() -> None:
    given = [endpoint(1, "a"), endpoint(2, "b"), endpoint(3, "a", "b"), endpoint(4, "b", priority=1)]
    assert order(nearest_first(given, "a")) == {"1": 0, "2": 1, "3": 0, "4": 2}
    assert order(nearest_first(given, "b")) == {"1": 2, "2": 0, "3": 0, "4": 1}


def test_where_the_same_zone_is_preferred_an_endpoint_without_hints_is_for_where_it_is() -> None:
    given = [endpoint(1, at="a"), endpoint(2, at="b"), endpoint(3, "a", at="b")]
    assert zones_apart(given, same_zone=True) == {"a", "b"}
    assert order(nearest_first(given, "a", same_zone=True)) == {"1": 0, "2": 1, "3": 0}
    assert zones_apart([endpoint(1, at="a"), endpoint(2)], same_zone=True) == frozenset()


def on(last: int, *nodes: str, zone: str = "", health: Health = "Healthy") -> Endpoint:
    """An endpoint for nodes that are in a zone, and for that."""
    zones = (zone,) if zone else ()
    return Endpoint(f"10.0.0.{last}", (), for_nodes=nodes, for_zones=zones, locality=Locality(zone=zone), health=health)


def test_hints_set_nodes_apart_only_where_every_endpoint_that_takes_traffic_has_them() -> None:
    assert nodes_apart([on(1, "n1"), on(2, "n2", "n3")]) == {"n1", "n2", "n3"}
    assert nodes_apart([on(1, "n1"), on(2)]) == frozenset()
    assert nodes_apart([on(1, "n1"), on(2, health="Draining")]) == {"n1"}
    assert nodes_apart([]) == frozenset()


def test_those_for_the_node_come_first_then_those_for_its_zone_then_all_others() -> None:
    given = [on(1, "n1", zone="a"), on(2, "n2", zone="a"), on(3, "n3", zone="b")]
    assert order(nearest_to_node(given, "n1")) == {"1": 0, "2": 1, "3": 2}
    assert order(nearest_to_node(given, "n3")) == {"3": 0, "1": 2, "2": 2}, "none of the others is in its zone"
    assert order(nearest_to_node([on(1, "n1"), on(2, "n2")], "n1")) == {"1": 0, "2": 1}
