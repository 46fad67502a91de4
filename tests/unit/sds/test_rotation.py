"""Authorities that follow each other: what may happen when, and what can never happen."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sds import rotation
from sds.rotation import SKEW, Book, Gate, Policy, RefusedStep, Slot, State

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
OPEN, CLOSED, UNKNOWN = Gate(), Gate(("sidecar~shop~reviews~1",)), Gate(known=False)
MANUAL = Policy(renew=False)


def slot(name: str, *, root: str = "", life: dt.timedelta = 360 * DAY, begins: dt.datetime = NOW) -> Slot:
    chain, key = f"chain {name}", f"key {name}".encode()
    return Slot(name, "prepared", root or name, chain, key, b"jwt", "public", begins, begins, begins, begins + life)


def book(*prepared: str, **more: Any) -> Book:
    made = rotation.first(slot("a", **more), "td", NOW)
    for name in prepared:
        made = rotation.prepare(made, slot(name, **more), NOW)
    return made


def states(found: Book) -> dict[str, State]:
    return {one.id: one.state for one in found.slots}


def test_a_prepared_authority_signs_once_every_proxy_trusts_it() -> None:
    with pytest.raises(RefusedStep, match="sidecar~shop~reviews~1"):
        rotation.activate(book("b"), "b", NOW, CLOSED)
    done = rotation.activate(book("b"), "b", NOW, OPEN)
    assert states(done) == {"a": "old", "b": "active"}
    assert done.active.id == "b"


def test_nothing_is_activated_while_it_is_not_known_who_trusts_it() -> None:
    """After a restart nobody is connected for a moment, and that is no consent."""
    with pytest.raises(RefusedStep, match="not known"):
        rotation.activate(book("b"), "b", NOW, UNKNOWN)


def test_an_operator_overrides_the_gate() -> None:
    assert states(rotation.activate(book("b"), "b", NOW, CLOSED, override=True))["b"] == "active"


def test_another_intermediate_of_the_same_root_waits_for_nobody() -> None:
    first = rotation.first(slot("i1", root="r"), "td", NOW)
    both = rotation.prepare(first, slot("i2", root="r"), NOW)
    assert states(rotation.activate(both, "i2", NOW, CLOSED)) == {"i1": "old", "i2": "active"}


def test_the_old_one_is_revoked_only_when_nothing_that_it_signed_lives() -> None:
    signed = rotation.reserve(book("b"), NOW + DAY)
    turned = rotation.activate(signed, "b", NOW, OPEN)
    lives_until = turned.slot("a").issued_until
    assert lives_until is not None
    assert lives_until >= NOW + DAY
    with pytest.raises(RefusedStep, match="may be valid until"):
        rotation.revoke(turned, "a", lives_until)
    gone = rotation.revoke(turned, "a", lives_until + SKEW)
    assert states(gone) == {"a": "revoked", "b": "active"}
    assert gone.slot("a").key == b""
    assert gone.slot("a").jwt_key == b""
    assert [one.id for one in gone.trusted()] == ["b"]


def test_an_operator_revokes_at_once_what_was_stolen() -> None:
    turned = rotation.activate(rotation.reserve(book("b"), NOW + DAY), "b", NOW, OPEN)
    tainted = rotation.taint(turned, "a", NOW)
    assert states(tainted)["a"] == "tainted"
    with pytest.raises(RefusedStep):
        rotation.revoke(tainted, "a", NOW)
    assert states(rotation.revoke(tainted, "a", NOW, override=True))["a"] == "revoked"


@pytest.mark.parametrize("override", [False, True])
def test_the_one_that_signs_is_never_revoked_or_tainted(override: bool) -> None:
    with pytest.raises(RefusedStep, match="Activate another one first"):
        rotation.revoke(book("b"), "a", NOW, override=override)
    with pytest.raises(RefusedStep, match="activate another one first"):
        rotation.taint(book("b"), "a", NOW)


def test_a_prepared_one_can_be_taken_back() -> None:
    assert states(rotation.revoke(book("b"), "b", NOW)) == {"a": "active", "b": "revoked"}


def test_one_is_prepared_at_a_time() -> None:
    with pytest.raises(RefusedStep, match="prepared already"):
        rotation.prepare(book("b"), slot("c"), NOW)
    with pytest.raises(RefusedStep, match="in the book already"):
        rotation.prepare(book(), slot("a"), NOW)
    with pytest.raises(RefusedStep, match="ended"):
        rotation.prepare(book(), slot("z", life=-DAY), NOW)


def test_an_authority_is_named_by_the_beginning_of_its_fingerprint() -> None:
    two = rotation.prepare(rotation.first(slot("abc"), "td", NOW), slot("abd"), NOW)
    assert two.slot("abc").id == "abc"
    assert rotation.prepare(book(), slot("aa"), NOW).slot("a").id == "a"
    for wrong in ("ab", "x", ""):
        with pytest.raises(RefusedStep):
            two.slot(wrong)


# -- what happens by itself ------------------------------------------------------------------------------------------


def step(found: Book, at: dt.datetime, gate: Gate = OPEN, policy: Policy = Policy()) -> tuple[str, str] | None:  # noqa: B008
    due = rotation.due(found, at, gate, policy)
    return (due.kind, due.id) if due is not None else None


def test_a_next_one_is_prepared_a_month_before_the_end_and_asked_for_a_week_before() -> None:
    assert step(book(), NOW + 329 * DAY) is None
    assert step(book(), NOW + 331 * DAY) == ("prepare", "")
    assert step(book("b"), NOW + 352 * DAY) is None
    assert step(book("b"), NOW + 354 * DAY) == ("ask", "b")


def test_a_short_life_is_followed_in_proportion() -> None:
    short = book(life=6 * HOUR)
    assert step(short, NOW + 2 * HOUR) is None
    assert step(short, NOW + 4 * HOUR) == ("prepare", "")


def test_an_offline_roots_intermediate_is_not_followed_by_itself() -> None:
    under = rotation.first(slot("i", root="r"), "td", NOW)
    assert step(under, NOW + 359 * DAY) is None
    assert step(book(), NOW + 359 * DAY, policy=MANUAL) is None


def test_what_was_asked_for_happens_when_the_gate_opens() -> None:
    asked = rotation.ask(book("b"), "b", NOW)
    assert step(asked, NOW + HOUR, CLOSED) is None
    assert step(asked, NOW + HOUR, UNKNOWN) is None
    assert step(asked, NOW + HOUR, OPEN) == ("activate", "b")


def test_waiting_ends_with_an_alarm_that_names_who_is_missing() -> None:
    asked = rotation.ask(book("b"), "b", NOW)
    due = rotation.due(asked, NOW + DAY, CLOSED, Policy())
    assert due is not None
    assert due.kind == "activate"
    assert "sidecar~shop~reviews~1" in due.alarm
    assert rotation.due(asked, NOW + DAY - HOUR, CLOSED, Policy()) is None


def test_waiting_ends_before_the_active_one_does() -> None:
    asked = rotation.ask(book("b", life=24 * HOUR), "b", NOW + 21 * HOUR)
    assert step(asked, NOW + 21.9 * HOUR, CLOSED) is None
    assert step(asked, NOW + 22.1 * HOUR, CLOSED) == ("activate", "b")


def test_the_old_one_goes_by_itself_when_nothing_of_it_lives() -> None:
    turned = rotation.activate(rotation.reserve(book("b"), NOW + DAY), "b", NOW, OPEN)
    assert step(turned, NOW + DAY, policy=MANUAL) is None
    assert step(turned, NOW + DAY + 2 * HOUR, policy=MANUAL) == ("revoke", "a")


def test_it_is_noted_once_an_hour_what_was_signed_and_never_too_late() -> None:
    noted = rotation.reserve(book(), NOW + DAY)
    assert rotation.reserve(noted, NOW + DAY + HOUR / 2) is noted
    again = rotation.reserve(noted, NOW + DAY + 2 * HOUR)
    assert again is not noted
    assert again.active.issued_until is not None
    assert again.active.issued_until >= NOW + DAY + 2 * HOUR
    near_the_end = rotation.reserve(book(life=DAY), NOW + 2 * DAY)
    assert near_the_end.active.issued_until == NOW + DAY
    assert rotation.reserve(near_the_end, NOW + 3 * DAY) is near_the_end


# -- whatever happens -------------------------------------------------------------------------------------------------


class _Rotations(RuleBasedStateMachine):
    """Steps in any order, at any time, with proxies that come late; beside it what proxies and leaves there are."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.book = rotation.first(slot("s0", life=40 * DAY), "td", NOW)
        self.made = 1
        self.sequences = [self.book.sequence]
        # What each of three proxies trusts, and the leaf that it has: (signer, end).
        self.trusts = [{"s0"}, {"s0"}, {"s0"}]
        self.leaves: list[tuple[str, dt.datetime] | None] = [None, None, None]
        self.forced = False

    def _gate(self) -> Gate:
        prepared = self.book.prepared
        if prepared is None:
            return OPEN
        return Gate(tuple(f"p{i}" for i, known in enumerate(self.trusts) if prepared.root not in known))

    def _try(self, change: Any) -> None:
        before = self.book
        try:
            self.book = change()
        except RefusedStep:
            assert self.book == before

    @rule(hours=st.integers(1, 30))
    def time_passes(self, hours: int) -> None:
        self.now += dt.timedelta(hours=hours)
        for _ in range(10):
            due = rotation.due(self.book, self.now, self._gate(), Policy(bound=10_000 * DAY))
            if due is None:
                return
            self.forced |= bool(due.alarm)
            match due.kind:
                case "prepare":
                    self.prepare()
                case "ask":
                    self.book = rotation.ask(self.book, due.id, self.now)
                case "activate":
                    self.book = rotation.activate(self.book, due.id, self.now, self._gate(), override=bool(due.alarm))
                case "revoke":
                    self.book = rotation.revoke(self.book, due.id, self.now)
        raise AssertionError("what is due never ends")

    @rule()
    def prepare(self) -> None:
        name = f"s{self.made}"
        self.made += 1
        self._try(lambda: rotation.prepare(self.book, slot(name, life=40 * DAY, begins=self.now), self.now))

    @rule()
    def activate(self) -> None:
        name = self.book.slots[-1].id
        self._try(lambda: rotation.activate(self.book, name, self.now, self._gate()))

    @rule(which=st.integers(0, 5), what=st.sampled_from(["taint", "revoke", "ask"]))
    def operate(self, which: int, what: str) -> None:
        name = self.book.slots[-1 - which % len(self.book.slots)].id
        self._try(lambda: getattr(rotation, what)(self.book, name, self.now))

    @rule(proxies=st.sampled_from([(0,), (1,), (2,), (0, 1, 2)]))
    def proxies_take_the_bundle(self, proxies: tuple[int, ...]) -> None:
        for proxy in proxies:
            self.trusts[proxy] = {one.root for one in self.book.trusted()}

    @precondition(lambda self: self.book.active.ends_at > self.now)
    @rule(proxy=st.integers(0, 2))
    def a_proxy_gets_a_leaf(self, proxy: int) -> None:
        end = min(self.now + DAY, self.book.active.ends_at)
        self.book = rotation.reserve(self.book, end)
        self.leaves[proxy] = (self.book.active.id, end)

    @invariant()
    def one_signs(self) -> None:
        assert sum(one.state == "active" for one in self.book.slots) == 1
        assert sum(one.state == "prepared" for one in self.book.slots) <= 1

    @invariant()
    def every_living_leaf_is_trusted_by_every_proxy(self) -> None:
        """The promise: nothing that happens by itself, or by a step without override, breaks traffic."""
        if self.forced:
            return
        bundle = {one.root for one in self.book.trusted()}
        for leaf in self.leaves:
            if leaf is None or leaf[1] <= self.now:
                continue
            assert leaf[0] in bundle
            for known in self.trusts:
                assert leaf[0] in known

    @invariant()
    def the_number_of_the_bundle_grows_with_it(self) -> None:
        assert self.book.sequence >= self.sequences[-1]
        self.sequences.append(self.book.sequence)

    @invariant()
    def a_revoked_one_has_no_key(self) -> None:
        assert all(bool(one.key) == (one.state != "revoked") for one in self.book.slots)


TestRotations = _Rotations.TestCase
TestRotations.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
