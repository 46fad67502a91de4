"""How objects lie in Consul's KV, and what changed between two answers."""

from __future__ import annotations

import json
import os
import zlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.stores import consul_values as values
from discovery.stores.consul_feed import Feed
from discovery.stores.consul_sweep import KEEP_DELETED, long_gone, too_old
from discovery.stores.consul_values import Layout, Operation, Pair, UnreadableError
from discovery.stores.stamps import timestamp
from discovery.stores.store import Event, TooLarge
from mesh.kinds.meta import Object, ObjectMeta
from mesh.kinds.namespace import Namespace
from mesh.model import ObjectKey

LAYOUT = Layout("a/b")
KEY = ObjectKey("Namespace", "", "x")


def namespace(name: str = "x", **labels: str) -> Namespace:
    return Namespace(api_version="v1", kind="Namespace", metadata=ObjectMeta(name=name, labels=labels))


def pair(at: int, found: Object | None = None, *, name: str = "x", when: str = "2026-11-26T00:00:00Z") -> Pair:
    value, flags = values.written(found, by="ann", at=when)
    return Pair(LAYOUT.object(ObjectKey("Namespace", "", name)), at, flags, value)


@given(
    st.sampled_from([("Namespace", ""), ("Service", "default"), ("HTTPRoute", "team-a")]),
    st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?", fullmatch=True),
)
def test_a_key_is_found_back_where_it_is(kind: tuple[str, str], name: str) -> None:
    key = ObjectKey(*kind, name)
    assert LAYOUT.key_of(LAYOUT.object(key)) == key
    assert "//" not in LAYOUT.object(key)
    assert LAYOUT.object(key).startswith(LAYOUT.kind(key.kind, None))
    assert LAYOUT.object(key).startswith(LAYOUT.kind(key.kind, key.namespace))
    assert LAYOUT.past(key, 7).startswith(LAYOUT.past(key))


@pytest.mark.parametrize("at", ["a/b/objects/@store", "a/b/objects/A/b", "a/b/objects/A//c", "a/b/history/A/b/c", "x"])
def test_what_is_no_object_is_none(at: str) -> None:
    assert LAYOUT.key_of(at) is None


@given(st.text(max_size=20), st.text(max_size=20))
def test_documents_of_one_collection_are_not_those_of_another_whatever_they_are_named(first: str, name: str) -> None:
    at = LAYOUT.document(first, name)
    assert LAYOUT.name_of_document(first, at) == name
    assert at.count("/") == LAYOUT.documents("").count("/")


def test_an_object_is_read_back_with_the_revision_at_which_it_stands() -> None:
    kept = values.kept(pair(7, namespace(team="shop")))
    made = values.read(KEY, kept, 7)
    assert made is not None
    assert (made.metadata.labels, made.metadata.resource_version, kept.by) == ({"team": "shop"}, "7", "ann")
    gone = values.kept(pair(8))
    assert (gone.gone, values.read(KEY, gone, 8)) == (True, None)


def test_an_object_in_the_key_of_another_is_unreadable() -> None:
    with pytest.raises(UnreadableError, match="in the key of another"):
        values.read(KEY, values.kept(pair(7, namespace("y"))), 7)


@pytest.mark.parametrize(
    "body", [b"{}", b'{"by": "a", "at": "b"}', b'{"kind": "Namespace", "metadata": {"name": "x"}}']
)
def test_an_object_as_it_is_does_not_look_deleted(body: bytes) -> None:
    with pytest.raises(UnreadableError, match="missing required field"):
        values.kept(Pair(LAYOUT.object(KEY), 7, 0, body))


def test_what_is_large_is_compressed_and_what_is_small_is_plain() -> None:
    small, large = b"{}", b"x" * values.COMPRESS_FROM
    assert values.packed(small) == (small, 0)
    body, flags = values.packed(large)
    assert (len(body) < 1000, flags) == (True, values.COMPRESSED)
    assert values.unpacked(Pair("k", 1, flags, body)) == large


@pytest.mark.parametrize(
    "body", [b"", b"not compressed", zlib.compress(b"x" * 100_000)[:-5], zlib.compress(b"\0" * (65 * 1024 * 1024), 9)]
)
def test_what_cannot_be_decompressed_or_would_fill_the_memory_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        values.unpacked(Pair("k", 1, values.COMPRESSED, body))


@pytest.mark.parametrize("body", [b"", b"[{", b"{}", b'[{"Key": 1}]', b'[{"Key": "k"}]', b"\xff", b"<html>"])
def test_an_answer_that_is_none_of_kv_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        values.pairs(body)
    with pytest.raises(UnreadableError):
        values.index_of(body, "k")


def test_operations_go_in_one_transaction_where_they_fit_and_each_with_the_check_where_not() -> None:
    check = Operation("check-index", "m", index=1)
    small = [check, Operation("set", "a", b"1"), Operation("cas", "b", b"2", index=0)]
    (one,) = values.transactions(small, what="it", whole=False)
    assert [each["KV"]["Verb"] for each in json.loads(one)] == ["check-index", "set", "cas"]
    assert json.loads(one)[2]["KV"]["Index"] == 0, "which means: only where there is none"
    half = os.urandom(300_000)
    both = values.transactions(
        [check, Operation("set", "a", half), Operation("cas", "b", half, 7)], what="it", whole=False
    )
    assert [[each["KV"]["Key"] for each in json.loads(body)] for body in both] == [["m", "a"], ["m", "b"]]
    with pytest.raises(TooLarge, match="512 kB"):
        values.transactions([check, Operation("set", "a", os.urandom(400_000))], what="it", whole=False)
    with pytest.raises(TooLarge, match="Write fewer"):
        values.transactions([check, *(Operation("delete", str(n)) for n in range(64))], what="they", whole=True)


def test_a_feed_tells_each_change_once_and_a_deletion_too() -> None:
    feed = Feed(LAYOUT, after=5)
    assert feed.events([pair(4, namespace())]) == ()
    [changed] = feed.events([pair(6, namespace(a="b"))])
    assert (changed.key, changed.revision, changed.restored) == (KEY, 6, False)
    assert feed.events([pair(6, namespace(a="b"))]) == ()
    assert feed.events([pair(7)]) == (Event(KEY, 7, None),)
    assert feed.events([]) == (), "a deletion whose last trace is swept away is nothing new"


def test_a_feed_tells_what_vanished_or_went_back_as_restored() -> None:
    feed = Feed(LAYOUT, after=0)
    feed.events([pair(6, namespace()), pair(7, namespace("y"), name="y")])
    [vanished, older] = sorted(feed.events([pair(3, namespace())]), key=lambda event: event.object is not None)
    assert (vanished.key.name, vanished.object, vanished.restored) == ("y", None, True)
    assert (older.key.name, older.revision, older.restored) == ("x", 3, True)


def test_a_feed_tells_of_what_cannot_be_read_and_goes_on() -> None:
    body, _ = values.written(namespace(), by="", at="")
    broken = Pair(LAYOUT.object(ObjectKey("NoKind", "default", "c")), 2, 0, body)
    events = Feed(LAYOUT, after=0).events([broken, pair(3, namespace())])
    assert [(event.key.kind, bool(event.error)) for event in events] == [("NoKind", True), ("Namespace", False)]


def test_the_sweep_chooses_the_oldest_of_each_object_and_what_is_long_gone() -> None:
    other = ObjectKey("Namespace", "", "other")
    names = [LAYOUT.past(KEY, n) for n in (3, 11, 2, 100)] + [LAYOUT.past(other, 1), "something/else"]
    assert {each.key for each in too_old(LAYOUT, names, 2)} == {LAYOUT.past(KEY, 2), LAYOUT.past(KEY, 3)}
    now = datetime(2026, 11, 26, tzinfo=UTC)
    old = timestamp(now - KEEP_DELETED - timedelta(seconds=1))
    pairs = [
        pair(9, when=old),
        pair(8, namespace("other"), name="other", when=old),
        pair(7, name="z", when="2026-11-25"),
    ]
    chosen = long_gone(LAYOUT, pairs, names, now)
    assert [(each.verb, each.index) for each in chosen if each.key == LAYOUT.object(KEY)] == [("delete-cas", 9)]
    assert {each.key for each in chosen} == {LAYOUT.object(KEY), *(LAYOUT.past(KEY, n) for n in (2, 3, 11, 100))}
