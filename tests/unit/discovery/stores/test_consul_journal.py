"""A watcher that reads writers' pages knows what it missed, or knows that it does not."""

from __future__ import annotations

from discovery.stores.consul_feed import Feed
from discovery.stores.consul_journal import MOST_ENTRIES, Reading, Writing, forgotten, page
from discovery.stores.consul_values import Layout, Operation, Pair, packed

LAYOUT = Layout("fairlead")
NOW = "2026-01-02T00:00:00Z"


def pair(operation: Operation, index: int = 1) -> Pair:
    return Pair(operation.key, index, 0, operation.value)


def entered(writer: Writing, *keys: str) -> Pair:
    """The page after these writes."""
    return pair([writer.entered(key, NOW) for key in keys][-1])


def test_a_reader_is_told_each_key_once_by_all_writers() -> None:
    one, two, reading = Writing(LAYOUT, "one"), Writing(LAYOUT, "two"), Reading()
    reading.whole([entered(one, "a")])
    pages = [entered(one, "b", "c", "b"), entered(two, "d")]
    assert reading.missed(pages) == {"b", "c", "d"}
    assert reading.missed(pages) == frozenset()
    assert reading.missed([entered(one, "e"), pages[1]]) == {"e"}


def test_a_page_that_is_too_short_for_what_was_missed_says_nothing() -> None:
    one, reading = Writing(LAYOUT, "one"), Reading()
    reading.whole([entered(one, "a")])
    assert reading.missed([entered(one, *(["b"] * MOST_ENTRIES))]) == {"b"}
    assert reading.missed([entered(one, *(["c"] * (MOST_ENTRIES + 1)))]) is None


def test_a_page_that_went_back_or_is_none_says_nothing() -> None:
    one, reading = Writing(LAYOUT, "one"), Reading()
    old = entered(one, "a")
    reading.whole([entered(one, "b")])
    assert reading.missed([old]) is None, "somebody restored an older state"
    for body in (b"", b"{", b'{"at": "", "entries": []}', b"\xff"):
        assert reading.missed([Pair(f"{LAYOUT.journal}odd", 1, 0, body)]) is None


def test_writers_that_have_not_written_for_long_are_forgotten() -> None:
    old, new = Writing(LAYOUT, "old").entered("a", NOW), Writing(LAYOUT, "new").entered("a", "2026-01-03T00:00:00Z")
    odd = Operation("set", f"{LAYOUT.journal}odd", b"hello")
    found = forgotten([pair(old, 5), pair(new, 6), pair(odd, 7)], "2026-01-02T12:00:00Z")
    assert [(each.verb, each.key, each.index) for each in found] == [
        ("delete-cas", old.key, 5),
        ("delete-cas", odd.key, 7),
    ]


def test_a_page_stays_within_what_one_write_may_be() -> None:
    one = Writing(LAYOUT, "one")
    last = [one.entered(f"fairlead/objects/{'k' * 63}/{'n' * 63}/{'o' * 253}", NOW) for _ in range(200)][-1]
    assert last.value is not None
    assert len(last.value) < 32 * 1024
    found = page(pair(last))
    assert found is not None
    assert [entry.number for entry in found.entries] == list(range(141, 201))


def test_of_a_part_only_what_is_in_it_is_told_and_the_rest_stands() -> None:
    def kept(name: str, index: int, body: bytes = b'{"object": null}') -> Pair:
        value, flags = packed(body)
        return Pair(f"{LAYOUT.objects}Service/default/{name}", index, flags, value)

    feed = Feed(LAYOUT, after=-1)
    assert [event.key.name for event in feed.events([kept("a", 1), kept("b", 2)])] == ["a", "b"]
    assert [event.key.name for event in feed.events([kept("b", 3)], whole=False)] == ["b"]
    assert feed.events([kept("b", 3)], whole=False) == ()
    assert feed.events([kept("a", 1), kept("b", 3)]) == ()
