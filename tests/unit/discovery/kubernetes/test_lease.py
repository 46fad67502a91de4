from __future__ import annotations

from discovery.kubernetes.lease import Election, Record
from discovery.leading import LEASE_DURATION, RENEW_DEADLINE, RETRY_PERIOD

WALL = 1_800_000_000.0
START = "2027-01-15T08:00:00.000000Z"


class Held:
    """A lease as the API server holds it; who writes must have read what is there."""

    def __init__(self) -> None:
        self.record: Record | None = None

    def attempt(self, election: Election, now: float) -> bool:
        """One look and, where the election says so, one write, at a moment."""
        election.observed(self.record, now)
        wanted = election.wanted(now, WALL + now)
        if wanted is not None:
            self.record = wanted
            election.wrote(wanted, began=now, now=now)
        return election.leading(now)


def test_the_first_to_ask_leads_and_the_next_waits() -> None:
    lease, one, two = Held(), Election("one"), Election("two")
    assert lease.attempt(one, 0.0)
    assert not lease.attempt(two, 0.1)
    assert lease.record == Record("one", LEASE_DURATION, START, START, 0)
    assert (one.holder, two.holder) == ("one", "one")


def test_a_leader_that_renews_keeps_the_lease_for_ever() -> None:
    lease, one, two = Held(), Election("one"), Election("two")
    for tick in range(100):
        assert lease.attempt(one, tick * RETRY_PERIOD)
        assert not lease.attempt(two, tick * RETRY_PERIOD + 1)
    assert lease.record is not None
    assert lease.record.acquire_time == START
    assert lease.record.renew_time != lease.record.acquire_time
    assert lease.record.lease_transitions == 0


def test_the_lease_of_a_dead_leader_is_taken_after_its_duration_by_the_clock_of_who_takes_it() -> None:
    lease, one, two = Held(), Election("one"), Election("two")
    lease.attempt(one, 0.0)
    assert not lease.attempt(two, 1_000.0), "seen for the first time now, however old it says it is"
    assert not lease.attempt(two, 1_000.0 + LEASE_DURATION - 0.1)
    assert lease.attempt(two, 1_000.0 + LEASE_DURATION)
    assert lease.record is not None
    assert (lease.record.holder_identity, lease.record.lease_transitions) == ("two", 1)
    assert (one.term, two.term) == (0, 1), "the one that died has not heard of it"


def test_a_leader_that_cannot_renew_stops_before_another_may_begin() -> None:
    lease, one = Held(), Election("one")
    lease.attempt(one, 0.0)
    assert one.leading(RENEW_DEADLINE - 0.01)
    assert not one.leading(RENEW_DEADLINE)
    assert RENEW_DEADLINE < LEASE_DURATION


def test_leading_counts_from_the_beginning_of_the_renewal_not_from_its_answer() -> None:
    one = Election("one")
    one.observed(None, 0.0)
    wanted = one.wanted(0.0, WALL)
    assert wanted is not None
    one.wrote(wanted, began=0.0, now=8.0)
    assert one.leading(8.0)
    assert not one.leading(RENEW_DEADLINE)


def test_the_duration_that_the_holder_states_counts() -> None:
    lease, two = Held(), Election("two")
    lease.record = Record("other", lease_duration_seconds=60, renew_time=START)
    lease.attempt(two, 0.0)
    assert not lease.attempt(two, 59.0)
    assert lease.attempt(two, 60.0)


def test_a_released_lease_is_taken_at_once() -> None:
    lease, one, two = Held(), Election("one"), Election("two")
    lease.attempt(one, 0.0)
    lease.attempt(two, 0.5)
    lease.record = one.released(WALL + 1)
    assert not one.leading(1.0)
    assert lease.attempt(two, 1.0)
    assert lease.record is not None
    assert lease.record.lease_transitions == 1


def test_who_does_not_hold_a_lease_has_nothing_to_release() -> None:
    lease, one, two = Held(), Election("one"), Election("two")
    assert one.released(WALL) is None
    lease.attempt(one, 0.0)
    lease.attempt(two, 0.0)
    assert two.released(WALL) is None


def test_a_leader_whose_lease_another_took_or_somebody_deleted_leads_no_more() -> None:
    lease, one, two = Held(), Election("one"), Election("two")
    lease.attempt(one, 0.0)
    one.observed(Record("two", LEASE_DURATION), 1.0)
    assert not one.leading(1.0)
    lease = Held()
    lease.attempt(two, 0.0)
    two.observed(None, 1.0)
    assert not two.leading(1.0)


def test_a_lease_with_nothing_in_it_is_free() -> None:
    lease, one = Held(), Election("one")
    lease.record = Record()
    assert lease.attempt(one, 0.0)
