from __future__ import annotations

from typing import Any

import pytest

from tests.support.xds_client import delta_request, node, sotw_request
from tests.support.xds_script import Script, Served
from xds.protocol.doubts import taken
from xds.protocol.requests import read_delta, read_sotw
from xds.schema.type_urls import TYPE_CLUSTER


@pytest.fixture(params=["delta", "sotw"])
def script(request: pytest.FixtureRequest) -> Script:
    served = Served()
    served.set(TYPE_CLUSTER, {"a": "2", "b": "1"})
    return Script(served, request.param)


def hear(script: Script, doubted: dict[str, str], **fields: Any) -> dict[str, str]:
    """What a request shows about versions in doubt."""
    if script.variant == "delta":
        request: Any = read_delta(delta_request(TYPE_CLUSTER, **fields).SerializeToString())
    else:
        request = read_sotw(sotw_request(TYPE_CLUSTER, **fields).SerializeToString())
    return taken(doubted, script.stream, request, script.stream.receive(request))


def test_an_ack_shows_that_a_version_was_taken(script: Script) -> None:
    [response] = script.ask(TYPE_CLUSTER, node=node())
    assert hear(script, {"a": "2", "b": "9"}, nonce=response.nonce) == {"a": "2"}


def test_a_nack_shows_nothing(script: Script) -> None:
    [response] = script.ask(TYPE_CLUSTER, node=node())
    assert hear(script, {"a": "2"}, nonce=response.nonce, error="no") == {}


def test_a_client_that_comes_back_says_what_it_holds_and_so_has_taken(script: Script) -> None:
    held = Served()
    held.set(TYPE_CLUSTER, {"a": "3", "b": "1"})
    contents = held.contents[TYPE_CLUSTER]
    assert contents is not None
    doubted = {"a": "3", "b": "9"}
    assert hear(script, doubted, node=node(), versions=contents.versions(), version=contents.version) == {"a": "3"}


def test_a_state_of_the_world_client_may_have_taken_all_that_is_in_doubt() -> None:
    served, held = Served(), Served()
    served.set(TYPE_CLUSTER, {"a": "1", "c": "1"})
    held.set(TYPE_CLUSTER, {"a": "2", "b": "2", "c": "1"})
    contents = held.contents[TYPE_CLUSTER]
    assert contents is not None
    doubted = {"a": "2", "b": "2"}
    assert hear(Script(served, "sotw"), doubted, node=node(), version=contents.version) == doubted
    assert hear(Script(served, "sotw"), doubted, node=node(), version="something else") == {}


def test_a_client_that_holds_nothing_shows_nothing(script: Script) -> None:
    assert hear(script, {"a": "2"}, node=node()) == {}
