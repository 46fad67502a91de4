"""The gate before a new root signs: what is consent, and what only looks like it."""

from __future__ import annotations

from fairlead.identities.root_gate import RootGate, Seen

OLD, BOTH = b"old", b"old and new"


class Proxies:
    """A witness that the test moves."""

    def __init__(self, *holding: str) -> None:
        self.holding = set(holding)
        self.lacking: set[str] = set()

    def __call__(self) -> Seen:
        return Seen(frozenset(self.lacking), frozenset(self.holding))


def gate(*witnesses: Proxies, settle: float = 10.0) -> RootGate:
    made = RootGate(settle, now=0.0)
    for one in witnesses:
        made.ask_too(one)
    made.published(BOTH)
    return made


def test_it_is_open_when_every_proxy_has_the_bundle() -> None:
    proxies = Proxies("a", "b")
    found = gate(proxies)
    proxies.lacking = {"b"}
    assert found.look(BOTH, 20.0).waiting == ("b",)
    proxies.lacking = set()
    assert found.look(BOTH, 21.0).open


def test_a_bundle_that_another_way_has_not_carried_everywhere_is_no_consent() -> None:
    found, spread = gate(Proxies("a")), set[bytes]()
    found.wait_for(lambda roots: roots in spread)
    assert not found.look(BOTH, 20.0).open
    spread.add(OLD)
    assert not found.look(BOTH, 21.0).open
    spread.add(BOTH)
    assert found.look(BOTH, 22.0).open


def test_a_bundle_that_is_not_out_yet_is_no_consent() -> None:
    found = gate(Proxies("a"))
    assert not found.look(b"newer", 20.0).open
    found.published(b"newer")
    assert found.look(b"newer", 20.0).open


def test_who_went_long_ago_is_forgotten_though_nobody_looks() -> None:
    found = gate(Proxies())
    for number in range(10_000):
        found.away(f"agent {number}", float(number), current=False)
    assert len(found._away) == 10
    assert found.look(BOTH, 10_000.0).waiting == tuple(sorted(f"agent {number}" for number in range(9_991, 10_000)))


def test_nobody_at_all_is_no_consent_right_after_a_start() -> None:
    found = gate(Proxies())
    assert not found.look(BOTH, 9.9).open
    assert found.look(BOTH, 10.0).open
    found.restart(20.0)
    assert not found.look(BOTH, 29.0).open


def test_a_proxy_that_goes_away_before_it_has_the_bundle_is_waited_for() -> None:
    found = gate(Proxies("b"))
    found.away("a", 21.0, current=False)
    assert found.look(BOTH, 21.0).waiting == ("a",)
    assert found.look(BOTH, 30.9).waiting == ("a",)
    assert found.look(BOTH, 31.0).open


def test_one_that_had_all_there_was_and_was_away_when_the_new_root_came_is_waited_for() -> None:
    found = gate(Proxies("b"))
    found.published(OLD)
    found.away("a", 19.0, current=True)
    assert found.look(OLD, 19.5).open
    found.published(BOTH)
    assert found.look(BOTH, 20.0).waiting == ("a",)
    assert found.look(BOTH, 28.9).waiting == ("a",)
    assert found.look(BOTH, 29.0).open


def test_one_that_goes_away_with_the_bundle_is_not_waited_for() -> None:
    found = gate(Proxies("b"))
    found.away("a", 21.0, current=True)
    assert found.look(BOTH, 21.0).open


def test_one_that_is_given_a_certificate_on_its_way_back_lacks_what_it_lacked_until_it_says_more() -> None:
    """Its agent has the bundle with the certificate; the Envoy behind that agent may not have it yet."""
    found = gate(Proxies("b"))
    found.published(OLD)
    found.away("a", 19.0, current=True)
    found.published(BOTH)
    found.away("a", 25.0, current=None)
    assert found.look(BOTH, 25.0).waiting == ("a",)
    assert found.look(BOTH, 29.0).open, "no longer than if it had not come"
    found.away("new", 30.0, current=None)
    assert found.look(BOTH, 30.0).open


def test_one_that_comes_back_is_judged_by_what_it_says_then() -> None:
    proxies = Proxies("b")
    found = gate(proxies)
    found.away("a", 20.0, current=False)
    assert found.look(BOTH, 20.0).waiting == ("a",)
    proxies.holding, proxies.lacking = {"a", "b"}, {"a"}
    assert found.look(BOTH, 40.0).waiting == ("a",)
    proxies.lacking = set()
    assert found.look(BOTH, 41.0).open


def test_all_witnesses_have_to_agree() -> None:
    streams, agents = Proxies("a"), Proxies("agent")
    found = gate(streams, agents)
    agents.lacking = {"agent"}
    assert found.look(BOTH, 20.0).waiting == ("agent",)
