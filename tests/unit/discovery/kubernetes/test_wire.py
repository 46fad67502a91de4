from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.kubernetes.wire import (
    EndpointSlice,
    Key,
    Malformed,
    Pod,
    Reader,
    Secret,
    Service,
    UnreadableError,
)

GOOD = {"metadata": {"name": "good", "namespace": "a", "resourceVersion": "3"}, "spec": {"ports": [{"port": 80}]}}
BAD = {"metadata": {"name": "bad", "namespace": "a", "resourceVersion": "4"}, "spec": {"ports": [{"port": "80"}]}}


def page(*items: Any, **metadata: Any) -> bytes:
    listed = {"kind": "ServiceList", "metadata": {"resourceVersion": "9", **metadata}, "items": list(items)}
    return json.dumps(listed).encode()


def line(type_: str, item: Any) -> bytes:
    return json.dumps({"type": type_, "object": item}).encode()


def test_a_page_has_its_objects_in_order_and_how_to_go_on() -> None:
    other = {"metadata": {"name": "other"}, "spec": {}}
    read = Reader(Service).page(page(GOOD, other, **{"continue": "more", "remainingItemCount": 4}))
    assert [item.metadata.name for item in read.items] == ["good", "other"]
    assert (read.resource_version, read.token, read.remaining, read.malformed) == ("9", "more", 4, ())


def test_an_empty_list_may_be_written_as_null() -> None:
    read = Reader(Service).page(b'{"metadata": {"resourceVersion": "1", "continue": null}, "items": null}')
    assert (read.items, read.token) == ((), "")


def test_null_lists_and_maps_in_an_object_count_as_absent() -> None:
    body = b"""{"metadata": {"name": "a", "labels": null, "creationTimestamp": null}, "addressType": "IPv4",
               "endpoints": null, "ports": null}"""
    read = Reader(EndpointSlice).object(body)
    assert isinstance(read, EndpointSlice)
    assert (read.endpoints, read.ports, read.metadata.labels) == (None, None, None)


def test_one_malformed_object_of_a_page_is_told_with_its_field_and_the_others_are_read() -> None:
    read = Reader(Service).page(page(GOOD, BAD))
    assert [item.metadata.name for item in read.items] == ["good"]
    assert read.malformed == (
        Malformed(Key("a", "bad"), "Expected `int`, got `str`", "spec.ports[0].port", resource_version="4"),
    )


def test_an_object_without_a_readable_name_is_malformed_too() -> None:
    read = Reader(Service).page(page(GOOD, 3, {"metadata": {"name": 5, "namespace": "a"}}))
    assert len(read.items) == 1
    assert [malformed.key for malformed in read.malformed] == [Key("", ""), Key("a", "")]


def test_a_port_number_that_no_port_has_is_malformed() -> None:
    body = {"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": [], "ports": [{"port": 70000}]}
    assert isinstance(Reader(EndpointSlice).object(json.dumps(body).encode()), Malformed)


def test_watch_lines_carry_objects_and_the_version_to_go_on_from() -> None:
    for type_ in ("ADDED", "MODIFIED", "DELETED"):
        event = Reader(Service).event(line(type_, GOOD))
        assert (event.type, event.resource_version) == (type_, "3")
        assert event.object is not None
        assert event.object.metadata.key == Key("a", "good")


def test_a_bookmark_carries_a_version_only() -> None:
    event = Reader(Pod).event(line("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": "12"}, "spec": {}}))
    assert (event.type, event.resource_version, event.object, event.malformed) == ("BOOKMARK", "12", None, None)


def test_an_error_carries_the_servers_status() -> None:
    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
    failure = Reader(Pod).event(line("ERROR", status)).failure
    assert failure is not None
    assert (failure.code, failure.reason, failure.message) == (410, "Expired", "too old resource version")


def test_an_error_that_cannot_be_read_is_still_an_error() -> None:
    failure = Reader(Pod).event(line("ERROR", {"code": "many"})).failure
    assert failure is not None
    assert failure.code == 0
    assert failure.message


def test_a_malformed_object_of_a_watch_has_its_name_and_version() -> None:
    event = Reader(Service).event(line("DELETED", BAD))
    assert (event.type, event.object, event.resource_version) == ("DELETED", None, "4")
    assert event.malformed is not None
    assert event.malformed.key == Key("a", "bad")


def test_custom_resources_are_read_whole() -> None:
    event = Reader(dict[str, Any]).event(line("ADDED", GOOD))
    assert (event.object, event.resource_version) == (GOOD, "3")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"<html>502 Bad Gateway</html>",
        b'{"kind": "Status", "code": 200}',
        page(GOOD)[:-9],
        b'{"metadata": {"resourceVersion": "1"}, "items": [' + b"[" * 50_000,
        b'{"metadata": {"resourceVersion": "1"}, "items": [{"metadata": {"name": "\xff"}}]}',
    ],
)
def test_what_is_no_list_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        Reader(Service).page(body)


@pytest.mark.parametrize("text", [b"", b"{}", b'{"type": "BORN", "object": {}}', line("ADDED", GOOD)[:-5], b"\xff"])
def test_what_is_no_watch_event_is_refused(text: bytes) -> None:
    with pytest.raises(UnreadableError):
        Reader(Service).event(text)


@given(st.binary(max_size=60), st.integers(0, 200))
def test_garbage_in_the_middle_of_a_line_is_told_and_never_anything_else(garbage: bytes, at: int) -> None:
    whole = line("ADDED", GOOD)
    try:
        event = Reader(Service).event(whole[:at] + garbage + whole[at:])
    except UnreadableError:
        return
    assert event.object is not None or event.malformed is not None or event.type in ("BOOKMARK", "ERROR")


def test_a_secrets_values_are_never_shown() -> None:
    secret = Reader(Secret).object(b'{"metadata": {"name": "tls"}, "data": {"tls.key": "c2VjcmV0"}}')
    assert "c2VjcmV0" not in repr(secret)
