from __future__ import annotations

import random
from typing import Any

import pytest

from tests.support.xds_client import delta_request, node, sotw_request
from tests.support.xds_script import Script, Served
from xds.protocol.claims import Claims
from xds.protocol.requests import (
    DETAIL_LENGTH,
    NAME_LENGTH,
    NAMES,
    TYPES,
    ProtocolError,
    Recent,
    read_delta,
    read_sotw,
)
from xds.schema.type_urls import TYPE_ROUTE


def test_a_delta_request_is_read_field_by_field() -> None:
    raw = delta_request(
        TYPE_ROUTE, node=node(), subscribe=["a"], unsubscribe=["b"], versions={"c": "1"}, nonce="7", error="no"
    ).SerializeToString()
    request = read_delta(raw)
    assert request.type_url == TYPE_ROUTE
    assert request.node.id == "gateway~default~edge~1"
    assert (request.subscribe, request.unsubscribe) == (("a",), ("b",))
    assert request.versions.versions() == {"c": "1"}
    assert (request.nonce, request.error) == ("7", "no")


def test_an_error_without_a_message_is_still_a_nack() -> None:
    raw = sotw_request(TYPE_ROUTE, error="").SerializeToString()
    assert read_sotw(raw).error == "code 13"
    assert read_sotw(sotw_request(TYPE_ROUTE).SerializeToString()).error is None


def test_claims_of_equal_versions_are_equal_whatever_their_order() -> None:
    versions = {f"name-{i}": str(i) for i in range(50)}
    shuffled = list(versions.items())
    random.Random(1).shuffle(shuffled)
    one = read_delta(delta_request(TYPE_ROUTE, versions=versions).SerializeToString())
    other = read_delta(delta_request(TYPE_ROUTE, versions=dict(shuffled)).SerializeToString())
    assert one.versions == other.versions == Claims.of(versions)


def test_long_names_are_claimed_as_clients_write_them() -> None:
    versions = {"n" * 300: "v" * 200}
    request = read_delta(delta_request(TYPE_ROUTE, versions=versions).SerializeToString())
    assert request.versions == Claims.of(versions)


@pytest.mark.parametrize("read", [read_delta, read_sotw])
@pytest.mark.parametrize("raw", [b"\xff\xff\xff", b"\x12\x50short", random.Random(0).randbytes(500)])
def test_garbage_is_refused(read: object, raw: bytes) -> None:
    with pytest.raises(ProtocolError, match="is not a"):
        read(raw)  # type: ignore[operator]


def test_a_deeply_nested_node_is_refused_and_not_descended_into() -> None:
    raw = b""
    for _ in range(2_000):  # Value.struct_value.fields["a"] = Value...
        entry = b"\x0a\x01a\x12" + length(raw) + raw
        struct = b"\x0a" + length(entry) + entry
        raw = b"\x2a" + length(struct) + struct
    entry = b"\x0a\x08fairlead\x12" + length(raw) + raw
    metadata = b"\x0a" + length(entry) + entry
    nested = b"\x1a" + length(metadata) + metadata
    request = b"\x0a" + length(nested) + nested
    for read in (read_delta, read_sotw):
        with pytest.raises(ProtocolError):
            read(request + b"\x22\x01x" if read is read_sotw else request + b"\x12\x01x")


def length(content: bytes) -> bytes:
    size, encoded = len(content), bytearray()
    while size > 127:
        encoded.append(size & 127 | 128)
        size >>= 7
    return bytes([*encoded, size])


@pytest.mark.parametrize("field", ["subscribe", "unsubscribe", "versions"])
def test_more_names_than_any_proxy_needs_are_refused(field: str) -> None:
    names = [f"n{i}" for i in range(NAMES + 1)]
    given = dict.fromkeys(names, "1") if field == "versions" else names
    raw = delta_request(TYPE_ROUTE, **{field: given}).SerializeToString()
    with pytest.raises(ProtocolError, match=str(NAMES)) as caught:
        read_delta(raw)
    assert caught.value.exhausted


def test_names_that_come_in_portions_are_bounded_too() -> None:
    client = Script(Served())
    half = NAMES // 2 + 1
    client.ask(TYPE_ROUTE, subscribe=[f"a{i}" for i in range(half)])
    with pytest.raises(ProtocolError, match="is subscribed to"):
        client.ask(TYPE_ROUTE, subscribe=[f"b{i}" for i in range(half)])


def test_a_name_longer_than_any_of_ours_is_refused() -> None:
    raw = sotw_request(TYPE_ROUTE, names=["x" * (NAME_LENGTH + 1)]).SerializeToString()
    with pytest.raises(ProtocolError, match="characters"):
        read_sotw(raw)


def test_a_stream_may_ask_for_so_many_types_and_no_more() -> None:
    client = Script(Served())
    for i in range(TYPES):
        client.ask(f"type.googleapis.com/t{i}")
    with pytest.raises(ProtocolError, match="resource types"):
        client.ask("type.googleapis.com/one.more")


def test_s1_s16_an_unknown_type_is_answered_as_one_of_which_there_is_nothing() -> None:
    client = Script(Served())
    [answer] = client.ask("type.googleapis.com/some.unknown.Type", subscribe=["x"])
    assert list(answer.removed_resources) == ["x"]


@pytest.mark.parametrize(("read", "request_of"), [(read_delta, delta_request), (read_sotw, sotw_request)])
def test_a_nacks_words_are_kept_on_one_line_and_within_bounds(read: Any, request_of: Any) -> None:
    long = read(request_of(TYPE_ROUTE, nonce="1", error="no good " * 1_000_000).SerializeToString())
    assert long.error.startswith("no good no good")
    assert long.error.endswith("(8000000 characters)")
    assert len(long.error) < DETAIL_LENGTH + 50
    forged = read(request_of(TYPE_ROUTE, nonce="1", error="bad\r\nINFO all is well\x1b[2J").SerializeToString())
    assert forged.error == "bad INFO all is well [2J"
    assert read(request_of(TYPE_ROUTE, nonce="1", error="").SerializeToString()).error == "code 13"


def many(first: str = "first") -> list[str]:
    return [first, *(f"name-{i}" for i in range(500))]


def test_a_large_request_in_the_same_bytes_is_known_again() -> None:
    read = Recent(read_delta)
    raw = delta_request(TYPE_ROUTE, subscribe=many()).SerializeToString()
    known = read(raw)
    assert read(bytes(bytearray(raw))) is known
    assert set(known.subscribe) == set(many())  # type: ignore[union-attr]


@pytest.mark.parametrize(("read", "request_of"), [(read_delta, delta_request), (read_sotw, sotw_request)])
def test_large_requests_that_only_look_alike_are_told_apart(read: Any, request_of: Any) -> None:
    field = "subscribe" if read is read_delta else "names"
    recent = Recent(read)
    for first in ("aaaaa", "bbbbb", "aaaaa"):
        request = recent(request_of(TYPE_ROUTE, **{field: many(first)}).SerializeToString())
        assert set(getattr(request, field)) == set(many(first))
    untyped = request_of("", **{field: many()}).SerializeToString()
    assert {recent(untyped, kind).type_url for kind in (TYPE_ROUTE, "another")} == {TYPE_ROUTE, "another"}


def test_large_requests_that_are_one_proxys_own_are_not_kept() -> None:
    read = Recent(read_delta)
    for fields in ({"node": node()}, {"versions": {"a": "1"}}):
        raw = delta_request(TYPE_ROUTE, subscribe=many(), **fields).SerializeToString()
        assert read(raw) is not read(raw)


def test_few_large_requests_are_kept() -> None:
    read = Recent(read_delta)
    raws = [delta_request(TYPE_ROUTE, subscribe=many(), nonce=f"{i:05}").SerializeToString() for i in range(100)]
    first = read(raws[0])
    assert read(raws[0]) is first
    for raw in raws[1:]:
        read(raw)
    assert read(raws[0]) is not first
    assert read(raws[99]) is read(raws[99])
