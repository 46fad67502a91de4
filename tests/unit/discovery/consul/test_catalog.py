from __future__ import annotations

import json
from typing import Any

import pytest

from discovery.consul import catalog, wire
from discovery.consul.catalog import Rule
from discovery.consul.wire import UnreadableError
from mesh.model import Locality

PLAIN = Rule()


def entry(*states: str, node: dict[str, Any] | None = None, **service: Any) -> dict[str, Any]:
    return {
        "Node": {"Address": "10.0.0.1", "Datacenter": "dc1", "Meta": None, **(node or {})},
        "Service": {"ID": "a-1", "Service": "a", "Tags": None, "Meta": None, "Address": "", "Port": 8080, **service},
        "Checks": [{"Status": state} for state in states],
    }


# A scope makes Envoy take an address for a name, and its service with it.
UNREACHABLE = ("db.example.com", "fe80::1%eth0", "0.0.0.0", "::", "224.0.0.1", "ff02::1")


def rows(*entries: dict[str, Any], rule: Rule = PLAIN) -> Any:
    """What they say of the service in the default namespace."""
    return spaces(*entries, rule=rule).get("default")


def spaces(*entries: dict[str, Any], rule: Rule = PLAIN) -> Any:
    return catalog.rows(wire.entries(json.dumps(entries).encode()), rule)


@pytest.mark.parametrize(
    ("states", "weights"),
    [((), [10]), (("passing",), [10]), (("passing", "warning"), [3]), (("passing", "critical"), []), (("new",), [])],
)
def test_checks_say_whether_and_how_much(states: tuple[str, ...], weights: list[int]) -> None:
    _, found = rows(entry(*states, Weights={"Passing": 10, "Warning": 3}))
    assert [each.weight for each in found.endpoints] == weights


def test_proxy_is_no_service() -> None:
    assert rows(entry("passing", Kind="connect-proxy")) is None
    _, found = rows(entry("passing"), entry("passing", Kind="connect-proxy", Port=21000))
    assert [each.ports for each in found.endpoints] == [(("", 8080),)]


def test_tags_and_meta_are_labels_and_meta_wins() -> None:
    _, found = rows(entry(Tags=["canary", "version=v1", ""], Meta={"version": "v2"}))
    assert found.endpoints[0].labels == (("canary", "true"), ("version", "v2"))


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "fe80::1%eth0", "a.host", "1.2.3"])
def test_an_address_that_is_not_that_of_one_machine_everywhere_is_left_out(address: str) -> None:
    _, found = rows(entry(Address=address), entry(Address="fe80::1"), entry())
    assert [each.address for each in found.endpoints] == ["10.0.0.1", "fe80::1"]


def test_address_and_place() -> None:
    _, found = rows(entry(Address="10.9.9.9", node={"Meta": {"region": "eu", "zone": "eu-1"}}), entry())
    assert [(each.address, each.locality) for each in found.endpoints] == [
        ("10.0.0.1", Locality("dc1")),
        ("10.9.9.9", Locality("eu", "eu-1")),
    ]


def test_a_place_of_consuls_own_counts_before_meta_the_instances_before_its_nodes() -> None:
    meta = {"region": "meta", "zone": "meta-1", "consul-network-segment": "blue"}
    node = {"Locality": {"Region": "eu", "Zone": "eu-1"}, "Meta": meta}
    own = {"Locality": {"Region": "us", "Zone": "us-1"}}

    def place(**more: Any) -> Locality:
        (found,) = rows(entry(**more))[1].endpoints
        return found.locality

    assert place(node=node, **own) == Locality("us", "us-1", "blue")
    assert place(node=node) == Locality("eu", "eu-1", "blue")
    assert place(node={"Locality": None, "Meta": meta}, Locality=None) == Locality("meta", "meta-1", "blue")
    assert place(node={"Locality": {"Region": "eu"}, "Meta": {"consul-network-segment": ""}}) == Locality("eu")
    with pytest.raises(wire.UnreadableError):
        place(Locality={"Region": 7})


@pytest.mark.parametrize("service", [{"Port": 0}, {"Port": 70000}, *({"Address": at} for at in UNREACHABLE)])
def test_instance_that_envoy_cannot_reach_is_left_out(service: dict[str, Any]) -> None:
    _, found = rows(entry(**service))
    assert found.endpoints == ()


def test_what_nobody_can_do_anything_with_is_told_of() -> None:
    def odd(*given: dict[str, Any]) -> catalog.Odd:
        return catalog.odd(wire.entries(json.dumps(given).encode()))

    assert odd(entry(), entry(Port=0), entry(Kind="connect-proxy", Address="db.example.com")) == catalog.NOTHING_ODD
    for address in UNREACHABLE:
        assert odd(entry(), entry(ID="a-2", Address=address)).addresses == (f"a-2 at {address}",)
    assert odd(entry(), entry(ID="a-2", Address="10.0.0.9", Port=70000)).addresses == ("a-2 at 10.0.0.9:70000",)
    assert odd(entry(), entry(ID="a-2", Address="10.0.0.9", Port=-1)).addresses == ("a-2 at 10.0.0.9:-1",)
    meta = {"fairlead-port": "99999", "fairlead-protocol": "Gopher", "fairlead-namespace": "../x", "other": "?"}
    assert odd(entry(Meta=meta)).meta == (
        "fairlead-namespace=../x of a-1",
        "fairlead-port=99999 of a-1",
        "fairlead-protocol=Gopher of a-1",
    )
    good = {"fairlead-port": "81", "fairlead-protocol": "GRPC", "fairlead-namespace": "shop"}
    assert odd(entry(Meta=good), entry(Meta={"fairlead-port": ""})) == catalog.NOTHING_ODD


def test_port_and_protocol_are_said_by_meta() -> None:
    meta = {"fairlead-port": "9000", "fairlead-protocol": "grpc"}
    service, _ = rows(entry(Meta=meta), entry(Meta={"fairlead-port": "-1"}))
    assert [(each.port, each.protocol) for each in service.ports] == [(9000, "GRPC")]
    service, _ = rows(entry())
    assert [(each.port, each.protocol) for each in service.ports] == [(80, "HTTP")]


def test_critical_instance_stays_as_unhealthy_where_that_is_asked_for() -> None:
    _, found = rows(entry("critical", Weights={"Passing": 7, "Warning": 1}), rule=Rule(unhealthy=True))
    assert [(each.health, each.weight) for each in found.endpoints] == [("Unhealthy", 7)]
    _, found = rows(entry("warning", Weights={"Passing": 7, "Warning": 0}), rule=Rule(unhealthy=True))
    assert found.endpoints == (), "a weight of 0 for warnings leaves it out as before"


def test_namespace_is_said_by_meta_then_a_tag_then_consul_then_the_setting() -> None:
    meta = {"fairlead-namespace": "shop"}
    found = spaces(
        entry(Address="10.0.0.1", Meta=meta, Tags=["fairlead-namespace=no"], Namespace="no"),
        entry(Address="10.0.0.2", Tags=["fairlead-namespace=web"], Namespace="no"),
        entry(Address="10.0.0.3", Namespace="team"),
        entry(Address="10.0.0.4", Namespace="default"),
        entry(Address="10.0.0.5", Meta={"fairlead-namespace": "Not A Name"}),
        rule=Rule(namespace="home"),
    )
    assert {space: [each.address for each in ends.endpoints] for space, (_, ends) in found.items()} == {
        "home": ["10.0.0.4", "10.0.0.5"],
        "shop": ["10.0.0.1"],
        "team": ["10.0.0.3"],
        "web": ["10.0.0.2"],
    }


def test_other_datacenter_is_reached_at_its_wan_addresses() -> None:
    node = {"Address": "10.0.0.1", "TaggedAddresses": {"lan": "10.0.0.1", "wan": "198.51.100.1"}}
    wan = {"wan": {"Address": "198.51.100.9", "Port": 443}}
    entries = (
        entry(node=node),
        entry(node=node, Address="10.0.0.2"),
        entry(node=node, Address="10.0.0.3", TaggedAddresses=wan),
    )
    _, near = rows(*entries)
    assert [each.address for each in near.endpoints] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    _, far = rows(*entries, rule=Rule(remote=True, priority=2))
    assert [(each.address, each.ports[0][1], each.priority) for each in far.endpoints] == [
        ("10.0.0.2", 8080, 2),
        ("198.51.100.1", 8080, 2),
        ("198.51.100.9", 443, 2),
    ]


def test_instances_that_look_the_same_are_one_endpoint() -> None:
    _, found = rows(entry(ID="a-1"), entry(ID="a-2"))
    assert len(found.endpoints) == 1


def test_instances_at_one_address_and_port_are_one_endpoint_with_the_labels_of_all() -> None:
    weights = {"Passing": 5, "Warning": 1}
    _, found = rows(
        entry("passing", ID="b", Tags=["canary", "version=v2"], Weights=weights),
        entry("passing", ID="a", Tags=["version=v1"]),
        entry("passing", ID="c", Tags=["other"], Port=8081),
    )
    assert [(each.ports, each.labels, each.weight) for each in found.endpoints] == [
        ((("", 8080),), (("canary", "true"), ("version", "v1")), 5),
        ((("", 8081),), (("other", "true"),), 1),
    ]
    both = (entry("critical", ID="a"), entry("passing", ID="b"))
    for some in (both, both[::-1]):
        _, found = rows(*some, rule=Rule(unhealthy=True))
        assert [each.health for each in found.endpoints] == ["Healthy"], "one of the two is well"


@pytest.mark.parametrize(
    "body", [b"", b"[", b'{"a": 1}', b'[{"Node": 3}]', b'[{"Node": {}, "Service": {"Port": "x"}}]']
)
def test_broken_answer_is_refused_whole(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        wire.entries(body)
    with pytest.raises(UnreadableError):
        wire.names(b'{"a": [' + body)
