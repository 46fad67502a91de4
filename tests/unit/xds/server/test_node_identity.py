"""What anybody may write into a node, and what of it is refused, with words, before it is part of anything."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from mesh.model import Audience
from tests.support.xds_client import Client, TinyMesh, node, serving
from xds.schema.type_urls import TYPE_CLUSTER
from xds.server.node_identity import InvalidNodeError, identify

SIDECAR = "sidecar~default~cart~1"
MB = 1_000_000


@pytest.mark.parametrize("name", ["port", "ingress_port", "egress_port"])
@pytest.mark.parametrize(
    "value",
    [
        -1,
        65_536,
        1e300,
        -1e300,
        1.5,
        float("nan"),
        float("inf"),
        "-1",
        "65536",
        "80 ",
        "²",
        "",
        "x" * MB,
        True,
        None,
        [80],
    ],
    ids=lambda value: repr(value)[:8],
)
def test_a_port_that_is_none_is_refused_with_words(name: str, value: Any) -> None:
    with pytest.raises(InvalidNodeError) as caught:
        identify(node(SIDECAR, metadata={name: value}))
    assert f"node.metadata.fairlead.{name} must be a port number" in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("value", [0, 65_535, 80.0, "15001"])
def test_every_port_that_is_one_is_taken(value: Any) -> None:
    assert identify(node(SIDECAR, metadata={"egress_port": value})).audience.egress_port == int(value)


async def test_a_stream_with_such_a_port_ends_with_invalid_argument_and_makes_no_audience() -> None:
    mesh = TinyMesh()
    heard: list[Audience] = []
    mesh.hub.on_audience = lambda audience, _: heard.append(audience)
    async with serving(mesh) as server, Client(server.port) as client:
        await client.send(TYPE_CLUSTER, node=node(SIDECAR, metadata={"port": 80, "egress_port": -1}))
        code, details = await client.ended()
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "egress_port must be a port number, from 0 to 65535" in details
    assert heard == []


@pytest.mark.parametrize("instance", ["a\nb", "\x1b[31m", "\x00", "a\u2028b", "\u202egnp", "x" * MB])
def test_an_instance_that_could_not_stand_in_a_log_is_refused(instance: str) -> None:
    with pytest.raises(InvalidNodeError, match=r"node\.id") as caught:
        identify(node(f"gateway~default~edge~{instance}"))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("claim", ["kind", "namespace", "name", "service", "service_account"])
@pytest.mark.parametrize("value", [7, True, None, ["a"], {"a": 1}, "a\nb", "x" * MB], ids=lambda value: repr(value)[:6])
def test_a_claim_of_another_type_or_form_is_refused_with_its_name(claim: str, value: Any) -> None:
    with pytest.raises(InvalidNodeError, match=rf"node\.metadata\.fairlead\.{claim} ") as caught:
        identify(node(SIDECAR, metadata={claim: value}))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("service", ["a/b", "a~b", "A", "-", "*", "a b", "é"])
def test_a_service_that_could_not_be_a_part_of_names_is_refused(service: str) -> None:
    with pytest.raises(InvalidNodeError, match="not a Kubernetes name"):
        identify(node(SIDECAR, metadata={"service": service}))


@pytest.mark.parametrize("value", ["gateway", 7, None, ["gateway"]])
def test_claims_that_are_no_object_are_refused(value: Any) -> None:
    made = node(SIDECAR)
    made.metadata.update({"fairlead": value})
    with pytest.raises(InvalidNodeError, match="must be an object"):
        identify(made)


def test_of_large_metadata_next_to_nothing_is_kept() -> None:
    made = node(SIDECAR, metadata={"service": "cart", "other": "x" * MB})
    made.metadata.update({"labels": {f"l{n}": "x" * 100 for n in range(10_000)}})
    made.extensions.add(name="x" * MB)
    made.client_features.append("x" * MB)
    assert identify(made).node.ByteSize() < 1_000


def test_large_names_in_a_node_are_refused() -> None:
    with pytest.raises(InvalidNodeError, match=r"at most \d+ are taken"):
        identify(node(SIDECAR, cluster="x" * MB))
