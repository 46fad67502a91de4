"""Assignments: grouping, weights, priorities, addresses."""

from __future__ import annotations

import pytest

from mesh.model import Endpoint, Locality
from xds.schema import encode, to_dict
from xds.translate.endpoint import is_ip, load_assignment

HTTP = (("http", 8080),)


def test_the_order_in_which_sources_tell_makes_no_difference_within_a_locality_group() -> None:
    one = Endpoint("10.0.0.1", HTTP, locality=Locality("r", "a"))
    two = Endpoint("10.0.0.2", HTTP, locality=Locality("r", "b"))
    first = load_assignment("c", (one, two), port_name="http")
    assert encode(first) == encode(load_assignment("c", (two, one), port_name="http"))


def test_priorities_have_no_gaps() -> None:
    endpoints = [Endpoint(f"10.0.0.{priority}", HTTP, priority=priority) for priority in (3, 7, 9)]
    made = load_assignment("c", endpoints, port_name="http")
    assert [group.priority for group in made.endpoints] == [0, 1, 2]


def test_weight_zero_and_other_ports_are_left_out() -> None:
    endpoints = [Endpoint("10.0.0.1", HTTP, weight=0), Endpoint("10.0.0.2", (("admin", 1),))]
    assert to_dict(load_assignment("c", endpoints, port_name="http")) == {"cluster_name": "c"}


def test_an_address_that_two_sources_tell_of_counts_once() -> None:
    twice = [Endpoint("10.0.0.1", HTTP), Endpoint("10.0.0.1", HTTP, weight=5)]
    [group] = load_assignment("c", twice, port_name="http").endpoints
    assert [each.load_balancing_weight.value for each in group.lb_endpoints] == [1]


@pytest.mark.parametrize("weights", [(2**32 - 1, 1), (2**31, 2**31, 2**31), (2**40, 1, 1), (1_000_000,) * 5_000])
def test_weights_of_a_priority_fit_32_bits_and_keep_their_order(weights: tuple[int, ...]) -> None:
    zones = (Locality(zone="a"), Locality(zone="b"))
    endpoints = [
        Endpoint(f"10.0.{n // 256}.{n % 256}", HTTP, weight=weight, locality=zones[n % 2], priority=3)
        for n, weight in enumerate(weights)
    ]
    groups = load_assignment("c", endpoints, port_name="http").endpoints
    assert sum(group.load_balancing_weight.value for group in groups) <= 2**32 - 1
    made = {
        each.endpoint.address.socket_address.address: each.load_balancing_weight.value
        for group in groups
        for each in group.lb_endpoints
    }
    assert min(made.values()) >= 1
    scaled = [made[endpoint.address] for endpoint in endpoints]
    assert sorted(scaled, reverse=True) == [
        weight for _, weight in sorted(zip(weights, scaled, strict=True), reverse=True)
    ]
    assert scaled[0] / sum(scaled) == pytest.approx(weights[0] / sum(weights), rel=1e-3)
    for group in groups:
        assert group.load_balancing_weight.value == sum(e.load_balancing_weight.value for e in group.lb_endpoints)


def test_each_priority_has_weights_of_its_own() -> None:
    endpoints = [Endpoint(f"10.0.0.{n}", HTTP, weight=2**32 - 1, priority=n) for n in (1, 2)]
    groups = load_assignment("c", endpoints, port_name="http").endpoints
    assert [group.load_balancing_weight.value for group in groups] == [2**32 - 1] * 2


@pytest.mark.parametrize(
    ("address", "expected"),
    [("10.0.0.1", True), ("fd00::1", True), ("a.example.com", False), ("10.1", False), ("", False)],
)
def test_names_are_told_from_addresses(address: str, expected: bool) -> None:
    assert is_ip(address) is expected
