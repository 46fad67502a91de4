from __future__ import annotations

import json
from typing import Any

import pytest

from discovery.consul import catalog, wire
from discovery.consul.wire import UnreadableError
from mesh.model import Locality


def entry(*states: str, node: dict[str, Any] | None = None, **service: Any) -> dict[str, Any]:
    return {
        "Node": {"Address": "10.0.0.1", "Datacenter": "dc1", "Meta": None, **(node or {})},
        "Service": {"ID": "a-1", "Service": "a", "Tags": None, "Meta": None, "Address": "", "Port": 8080, **service},
        "Checks": [{"Status": state} for state in states],
    }


def rows(*entries: dict[str, Any]) -> Any:
    return catalog.rows(wire.entries(json.dumps(entries).encode()))


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


def test_address_and_place() -> None:
    _, found = rows(entry(Address="10.9.9.9", node={"Meta": {"region": "eu", "zone": "eu-1"}}), entry())
    assert [(each.address, each.locality) for each in found.endpoints] == [
        ("10.0.0.1", Locality("dc1")),
        ("10.9.9.9", Locality("eu", "eu-1")),
    ]


@pytest.mark.parametrize("service", [{"Port": 0}, {"Port": 70000}, {"Address": "db.example.com"}])
def test_instance_that_envoy_cannot_reach_is_left_out(service: dict[str, Any]) -> None:
    _, found = rows(entry(**service))
    assert found.endpoints == ()


def test_port_and_protocol_are_said_by_meta() -> None:
    meta = {"fairlead-port": "9000", "fairlead-protocol": "grpc"}
    service, _ = rows(entry(Meta=meta), entry(Meta={"fairlead-port": "-1"}))
    assert [(each.port, each.protocol) for each in service.ports] == [(9000, "GRPC")]
    service, _ = rows(entry())
    assert [(each.port, each.protocol) for each in service.ports] == [(80, "HTTP")]


@pytest.mark.parametrize(
    "body", [b"", b"[", b'{"a": 1}', b'[{"Node": 3}]', b'[{"Node": {}, "Service": {"Port": "x"}}]']
)
def test_broken_answer_is_refused_whole(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        wire.entries(body)
    with pytest.raises(UnreadableError):
        wire.names(b'{"a": [' + body)
