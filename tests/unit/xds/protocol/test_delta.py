from __future__ import annotations

import pytest

from tests.support.xds_script import Script, Served, removed, sent
from xds.schema.type_urls import TYPE_CLUSTER, TYPE_ENDPOINT, TYPE_LISTENER, TYPE_ROUTE, TYPE_SECRET


@pytest.fixture
def served() -> Served:
    made = Served()
    made.set(TYPE_ROUTE, {"a": "1", "b": "1", "c": "1"})
    return made


def test_d1_a_change_sends_only_what_changed_and_names_what_went(served: Served) -> None:
    client = Script(served)
    [first] = client.ask(TYPE_ROUTE)
    assert sent(first) == {"a": "1", "b": "1", "c": "1"}
    client.ack(first)
    served.set(TYPE_ROUTE, {"a": "1", "b": "2", "d": "1"})
    [second] = client.news()
    assert sent(second) == {"b": "2", "d": "1"}
    assert removed(second) == ["c"]


def test_d2_a_stale_nonce_still_applies_subscriptions(served: Served) -> None:
    client = Script(served)
    [first] = client.ask(TYPE_ROUTE, subscribe=["a"])
    client.ack(first)
    served.set(TYPE_ROUTE, {"a": "2", "b": "1"})
    [second] = client.news()
    [third] = client.ask(TYPE_ROUTE, nonce=first.nonce, subscribe=["b"])
    assert sent(third) == {"b": "1"}
    assert client.stream.types[TYPE_ROUTE].in_flight.keys() == {second.nonce, third.nonce}


def test_d2_a_nonce_of_another_stream_acknowledges_nothing(served: Served) -> None:
    client = Script(served)
    client.ask(TYPE_ROUTE, subscribe=["a"])
    assert client.ask(TYPE_ROUTE, nonce="4711") == []
    assert client.heard[-1].acked is None
    assert client.stream.types[TYPE_ROUTE].in_flight


def test_d3_a_name_subscribed_again_is_answered_again(served: Served) -> None:
    client = Script(served)
    [first] = client.ask(TYPE_ROUTE, subscribe=["a", "b"])
    client.ack(first)
    [again] = client.ask(TYPE_ROUTE, subscribe=["a"])
    assert sent(again) == {"a": "1"}


def test_d4_unsubscribing_what_was_never_subscribed_is_ignored(served: Served) -> None:
    client = Script(served)
    [first] = client.ask(TYPE_ROUTE, subscribe=["a"])
    client.ack(first)
    assert client.ask(TYPE_ROUTE, unsubscribe=["zzz"]) == []
    served.set(TYPE_ROUTE, {"a": "2"})
    [second] = client.news()
    assert sent(second) == {"a": "2"}


def test_d5_an_unsubscription_needs_no_answer_and_ends_the_updates(served: Served) -> None:
    client = Script(served)
    [first] = client.ask(TYPE_ROUTE, subscribe=["a", "b"])
    client.ack(first)
    assert client.ask(TYPE_ROUTE, unsubscribe=["a"]) == []
    served.set(TYPE_ROUTE, {"a": "2", "b": "1", "c": "1"})
    assert client.news() == []


def test_d6_a_name_unsubscribed_under_a_wildcard_is_sent_again(served: Served) -> None:
    client = Script(served)
    [first] = client.ask(TYPE_ROUTE, subscribe=["*", "a"])
    client.ack(first)
    [answer] = client.ask(TYPE_ROUTE, unsubscribe=["a"])
    assert sent(answer) == {"a": "1"}


def test_d6_an_absent_name_unsubscribed_under_a_wildcard_is_reported_removed(served: Served) -> None:
    client = Script(served)
    [first] = client.ask(TYPE_ROUTE, subscribe=["*", "nope"])
    assert removed(first) == ["nope"]
    client.ack(first)
    [answer] = client.ask(TYPE_ROUTE, unsubscribe=["nope"])
    assert sent(answer) == {}
    assert removed(answer) == ["nope"]


def test_d7_an_unknown_name_is_reported_removed_at_once_and_sent_when_it_appears(served: Served) -> None:
    client = Script(served)
    [first] = client.ask(TYPE_SECRET, subscribe=["late"])
    assert removed(first) == ["late"]
    client.ack(first)
    assert client.news() == []
    served.set(TYPE_SECRET, {"late": "1"})
    [second] = client.news()
    assert sent(second) == {"late": "1"}


def test_d7_a_named_resource_that_goes_is_reported_removed_once(served: Served) -> None:
    client = Script(served)
    [first] = client.ask(TYPE_ROUTE, subscribe=["a"])
    client.ack(first)
    served.set(TYPE_ROUTE, {})
    [second] = client.news()
    assert removed(second) == ["a"]
    client.ack(second)
    assert client.news() == []


def test_d8_a_returning_client_gets_only_differences(served: Served) -> None:
    client = Script(served)
    [answer] = client.ask(TYPE_ROUTE, versions={"a": "1", "b": "0", "gone": "7"})
    assert sent(answer) == {"b": "1", "c": "1"}
    assert removed(answer) == ["gone"]


def test_d8_a_returning_client_that_holds_everything_gets_nothing(served: Served) -> None:
    client = Script(served)
    assert client.ask(TYPE_ROUTE, versions={"a": "1", "b": "1", "c": "1"}) == []
    state = client.stream.types[TYPE_ROUTE]
    assert state.held is state.acked is served.contents[TYPE_ROUTE]


def test_d8_what_a_returning_client_holds_beside_its_subscription_is_forgotten(served: Served) -> None:
    client = Script(served)
    assert client.ask(TYPE_ROUTE, subscribe=["a"], versions={"a": "1", "b": "1"}) == []
    served.set(TYPE_ROUTE, {"a": "1", "b": "2"})
    assert client.news() == []


def test_d8_claims_wait_for_an_audience_that_is_not_known_yet(served: Served) -> None:
    routes = served.contents[TYPE_ROUTE]
    served.contents[TYPE_ROUTE] = None
    client = Script(served)
    assert client.ask(TYPE_ROUTE, versions={"a": "1", "b": "0", "c": "1"}) == []
    served.contents[TYPE_ROUTE] = routes
    [answer] = client.news()
    assert sent(answer) == {"b": "1"}


def test_d9_a_first_request_without_names_means_everything(served: Served) -> None:
    client = Script(served)
    [first] = client.ask(TYPE_ROUTE)
    assert len(sent(first)) == 3
    client.ack(first)
    # A name beside the old wildcard adds to it, and is answered.
    [second] = client.ask(TYPE_ROUTE, subscribe=["a"])
    assert sent(second) == {"a": "1"}
    client.ack(second)
    served.set(TYPE_ROUTE, {"a": "1", "b": "1", "c": "1", "d": "1"})
    [third] = client.news()
    assert sent(third) == {"d": "1"}


def test_d9_dropping_the_wildcard_keeps_the_names(served: Served) -> None:
    client = Script(served)
    [first] = client.ask(TYPE_ROUTE, subscribe=["*", "a"])
    client.ack(first)
    assert client.ask(TYPE_ROUTE, unsubscribe=["*"]) == []
    served.set(TYPE_ROUTE, {"a": "2", "b": "2", "c": "2"})
    [second] = client.news()
    assert sent(second) == {"a": "2"}


def test_d9_a_client_may_subscribe_to_nothing(served: Served) -> None:
    client = Script(served)
    assert client.ask(TYPE_ROUTE, unsubscribe=["*"]) == []
    served.set(TYPE_ROUTE, {"a": "2"})
    assert client.news() == []


def test_d9_a_wildcard_over_nothing_is_answered_so_that_the_client_does_not_wait() -> None:
    client = Script(Served())
    [first] = client.ask(TYPE_LISTENER)
    assert sent(first) == {}
    assert removed(first) == []
    assert client.ack(first) == []


def test_d11_versions_are_those_of_the_resources(served: Served) -> None:
    client = Script(served)
    [first] = client.ask(TYPE_ROUTE, subscribe=["a"])
    assert [(one.name, one.version) for one in first.resources] == [("a", "1")]


def test_d12_no_resource_carries_a_time_to_live(served: Served) -> None:
    client = Script(served)
    [first] = client.ask(TYPE_ROUTE)
    assert not any(one.HasField("ttl") for one in first.resources)


def test_d13_a_removed_endpoint_resource_stays_while_its_cluster_does() -> None:
    served = Served()
    served.set(TYPE_CLUSTER, {"x": "1"})
    served.set(TYPE_ENDPOINT, {"x": "1"})
    client = Script(served)
    [clusters] = client.ask(TYPE_CLUSTER)
    client.ack(clusters)
    [endpoints] = client.ask(TYPE_ENDPOINT, subscribe=["x"])
    client.ack(endpoints)
    served.set(TYPE_ENDPOINT, {})
    assert client.news() == []


def test_a_push_waits_for_the_answer_to_the_one_before_and_carries_the_latest(served: Served) -> None:
    client = Script(served)
    [first] = client.ask(TYPE_ROUTE)
    for version in "23456":
        served.set(TYPE_ROUTE, {"a": version, "b": "1", "c": "1"})
        assert client.news() == []
    [second] = client.ack(first)
    assert sent(second) == {"a": "6"}


def test_a_client_that_never_answers_is_told_again_after_some_time(served: Served) -> None:
    client = Script(served)
    client.ask(TYPE_ROUTE)
    served.set(TYPE_ROUTE, {"a": "2", "b": "1", "c": "1"})
    assert client.news() == []
    assert client.wait(9.9) == []
    [late] = client.wait(0.2)
    assert sent(late) == {"a": "2"}


def test_what_changes_back_before_it_was_sent_is_not_sent(served: Served) -> None:
    client = Script(served)
    [first] = client.ask(TYPE_ROUTE)
    served.set(TYPE_ROUTE, {"a": "2", "b": "1", "c": "1"})
    client.news()
    served.set(TYPE_ROUTE, {"a": "1", "b": "1", "c": "1"})
    assert client.ack(first) == []


def test_streams_in_one_state_share_one_body(served: Served) -> None:
    clients = [Script(served) for _ in range(5)]
    for client in clients:
        [first] = client.ask(TYPE_ROUTE, subscribe=["a", "b", "c"])
        client.ack(first)
    made = served.transitions.made
    served.set(TYPE_ROUTE, {"a": "2", "b": "1", "c": "1"})
    for client in clients:
        [second] = client.news()
        assert sent(second) == {"a": "2"}
    # What is wanted, how it differs, and the step: once, not five times.
    assert served.transitions.made - made <= 3
    assert len({id(client.stream.types[TYPE_ROUTE].held) for client in clients}) == 1


def test_t4_a_name_is_matched_as_it_stands_whatever_it_looks_like() -> None:
    served = Served()
    name = "xdstp://authority/envoy.config.listener.v3.Listener/group/*?a=1&b=2"
    served.set(TYPE_LISTENER, {name: "1", "xdstp://authority/envoy.config.listener.v3.Listener/group/x": "1"})
    client = Script(served)
    [answer] = client.ask(TYPE_LISTENER, subscribe=[name, name.replace("a=1&b=2", "b=2&a=1")])
    assert sent(answer) == {name: "1"}
    assert len(removed(answer)) == 1
