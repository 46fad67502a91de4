from __future__ import annotations

import pytest

from tests.support.xds_script import Script, Served, sent
from xds.protocol.requests import ProtocolError, read_sotw
from xds.schema.type_urls import TYPE_CLUSTER, TYPE_ENDPOINT, TYPE_LISTENER, TYPE_ROUTE, TYPE_SECRET
from xds.schema.types import DiscoveryRequest


@pytest.fixture
def served() -> Served:
    made = Served()
    made.set(TYPE_LISTENER, {"l1": "1", "l2": "1"})
    made.set(TYPE_ROUTE, {"a": "1", "b": "1"})
    return made


def test_s2_every_response_has_a_nonce_of_its_own(served: Served) -> None:
    client = Script(served, "sotw")
    [listeners] = client.ask(TYPE_LISTENER)
    [routes] = client.ask(TYPE_ROUTE, names=["a"])
    assert listeners.nonce
    assert routes.nonce
    assert listeners.nonce != routes.nonce


def test_s3_a_request_with_a_stale_nonce_is_not_answered(served: Served) -> None:
    client = Script(served, "sotw")
    [first] = client.ask(TYPE_ROUTE, names=["a"])
    client.ack(first, names=["a"])
    served.set(TYPE_ROUTE, {"a": "2", "b": "1"})
    [second] = client.news()
    assert client.ask(TYPE_ROUTE, nonce=first.nonce, names=["a", "b"]) == []
    [third] = client.ack(second, names=["a", "b"])
    assert sent(third) == {"b": "1"}


def test_s4_of_several_requests_the_latest_counts(served: Served) -> None:
    client = Script(served, "sotw")
    first = read_sotw(DiscoveryRequest(type_url=TYPE_ROUTE, resource_names=["a"]).SerializeToString())
    second = read_sotw(DiscoveryRequest(type_url=TYPE_ROUTE, resource_names=["a", "b"]).SerializeToString())
    client.stream.receive(first)
    client.stream.receive(second)
    [answer] = client.take()
    assert sent(answer) == {"a": "1", "b": "1"}


def test_s5_a_nack_is_known_by_its_error_not_by_its_version(served: Served) -> None:
    client = Script(served, "sotw")
    [first] = client.ask(TYPE_LISTENER)
    client.ask(TYPE_LISTENER, nonce=first.nonce, version="an old one")
    assert client.heard[-1].acked is not None
    served.set(TYPE_LISTENER, {"l1": "2", "l2": "1"})
    [second] = client.news()
    client.nack(second, "listener l1 is bad", version=second.version_info)
    assert client.heard[-1].nacked is not None


def test_s6_what_was_acknowledged_is_not_sent_again(served: Served) -> None:
    client = Script(served, "sotw")
    [first] = client.ask(TYPE_LISTENER)
    assert client.ack(first) == []
    assert client.news() == []


def test_s7_the_version_depends_on_the_resources_alone(served: Served) -> None:
    [one] = Script(served, "sotw").ask(TYPE_LISTENER)
    restarted = Served()
    restarted.set(TYPE_LISTENER, {"l2": "1"})
    restarted.set(TYPE_LISTENER, {"l2": "1", "l1": "1"})
    [other] = Script(restarted, "sotw").ask(TYPE_LISTENER)
    assert one.version_info == other.version_info


@pytest.mark.parametrize(("type_url", "names"), [(TYPE_LISTENER, []), (TYPE_ROUTE, ["a", "b"])])
def test_s7_a_returning_client_with_the_present_version_gets_nothing(
    served: Served, type_url: str, names: list[str]
) -> None:
    [first] = Script(served, "sotw").ask(type_url, names=names)
    returned = Script(served, "sotw")
    assert returned.ask(type_url, names=names, version=first.version_info) == []
    assert returned.stream.types[type_url].acked.version == first.version_info


def test_s7_a_returning_client_that_names_more_gets_all_of_it(served: Served) -> None:
    [first] = Script(served, "sotw").ask(TYPE_ROUTE, names=["a"])
    [answer] = Script(served, "sotw").ask(TYPE_ROUTE, names=["a", "b"], version=first.version_info)
    assert sent(answer) == {"a": "1", "b": "1"}


def test_s8_listeners_and_clusters_are_sent_complete_and_absence_deletes(served: Served) -> None:
    client = Script(served, "sotw")
    [first] = client.ask(TYPE_LISTENER)
    client.ack(first)
    served.set(TYPE_LISTENER, {"l1": "1"})
    [second] = client.news()
    assert sent(second) == {"l1": "1"}
    client.ack(second)
    served.set(TYPE_LISTENER, {})
    [third] = client.news()
    assert sent(third) == {}


def test_s9_other_types_are_sent_in_part_and_absence_is_not_told(served: Served) -> None:
    client = Script(served, "sotw")
    [first] = client.ask(TYPE_ROUTE, names=["a", "b"])
    client.ack(first, names=["a", "b"])
    served.set(TYPE_ROUTE, {"a": "2"})
    [second] = client.news()
    assert sent(second) == {"a": "2"}
    client.ack(second, names=["a", "b"])
    served.set(TYPE_ROUTE, {})
    assert client.news() == []


def test_s10_a_newly_requested_name_is_sent_even_if_it_was_sent_before(served: Served) -> None:
    client = Script(served, "sotw")
    [first] = client.ask(TYPE_ROUTE, names=["a", "b"])
    assert client.ack(first, names=["a"]) == []
    [second] = client.ask(TYPE_ROUTE, nonce=first.nonce, names=["a", "b"])
    assert sent(second) == {"b": "1"}


def test_s11_an_empty_list_means_everything_only_until_something_was_named(served: Served) -> None:
    client = Script(served, "sotw")
    [first] = client.ask(TYPE_ROUTE)
    assert sent(first) == {"a": "1", "b": "1"}
    client.ack(first)
    [second] = client.ask(TYPE_ROUTE, nonce=first.nonce, names=["a"])
    assert sent(second) == {"a": "1"}
    assert client.ack(second, names=[]) == []
    served.set(TYPE_ROUTE, {"a": "2", "b": "2"})
    assert client.news() == []


def test_s12_wildcard_and_names_come_and_go_separately(served: Served) -> None:
    client = Script(served, "sotw")
    [first] = client.ask(TYPE_ROUTE)
    [second] = client.ack(first, names=["*", "a"])
    assert sent(second) == {"a": "1"}
    assert client.ack(second, names=["a"]) == []
    served.set(TYPE_ROUTE, {"a": "2", "b": "2"})
    [third] = client.news()
    assert sent(third) == {"a": "2"}
    assert client.ack(third, names=[]) == []
    served.set(TYPE_ROUTE, {"a": "3", "b": "3"})
    assert client.news() == []


def test_s13_a_name_that_does_not_exist_yet_is_remembered(served: Served) -> None:
    client = Script(served, "sotw")
    assert client.ask(TYPE_SECRET, names=["late"]) == []
    served.set(TYPE_SECRET, {"late": "1"})
    [answer] = client.news()
    assert sent(answer) == {"late": "1"}


def test_s13_a_named_listener_that_does_not_exist_is_answered_by_a_list_without_it(served: Served) -> None:
    client = Script(served, "sotw")
    [answer] = client.ask(TYPE_LISTENER, names=["nope"])
    assert sent(answer) == {}
    [second] = client.ack(answer, names=["nope", "l1"])
    assert sent(second) == {"l1": "1"}


def test_s14_a_name_that_is_asked_for_twice_is_sent_once(served: Served) -> None:
    client = Script(served, "sotw")
    [answer] = client.ask(TYPE_ROUTE, names=["a", "a", "a"])
    assert len(answer.resources) == 1


def test_s15_several_names_on_one_stream_and_one_name_per_stream_give_the_same(served: Served) -> None:
    [both] = Script(served, "sotw").ask(TYPE_ROUTE, names=["a", "b"])
    apart = [Script(served, "sotw").ask(TYPE_ROUTE, names=[name])[0] for name in "ab"]
    assert sent(both) == {**sent(apart[0]), **sent(apart[1])}


def test_s16_a_request_without_a_type_is_refused_where_the_stream_does_not_imply_one() -> None:
    raw = DiscoveryRequest(resource_names=["a"]).SerializeToString()
    with pytest.raises(ProtocolError, match="type_url is missing"):
        read_sotw(raw)
    assert read_sotw(raw, TYPE_ROUTE).type_url == TYPE_ROUTE
    other = DiscoveryRequest(type_url=TYPE_SECRET).SerializeToString()
    with pytest.raises(ProtocolError, match="this stream serves"):
        read_sotw(other, TYPE_ROUTE)


def test_s17_a_changed_cluster_is_followed_by_its_unchanged_endpoints() -> None:
    served = Served()
    served.set(TYPE_CLUSTER, {"x": "1", "y": "1"})
    served.set(TYPE_ENDPOINT, {"x": "1", "y": "1"})
    client = Script(served, "sotw")
    [clusters] = client.ask(TYPE_CLUSTER)
    client.ack(clusters)
    [endpoints] = client.ask(TYPE_ENDPOINT, names=["x", "y"])
    client.ack(endpoints, names=["x", "y"])
    served.set(TYPE_CLUSTER, {"x": "2", "y": "1"})
    [clusters, endpoints] = client.news()
    assert sent(clusters) == {"x": "2", "y": "1"}
    assert sent(endpoints) == {"x": "1"}


def test_s20_resources_are_not_wrapped_and_have_no_time_to_live(served: Served) -> None:
    client = Script(served, "sotw")
    [answer] = client.ask(TYPE_LISTENER)
    assert [one.type_url for one in answer.resources] == ["", ""]  # the script's own content, not a Resource


def test_a_listener_that_clients_name_one_by_one_is_not_lost_when_another_changes(served: Served) -> None:
    client = Script(served, "sotw")
    [first] = client.ask(TYPE_LISTENER, names=["l1", "l2"])
    client.ack(first, names=["l1", "l2"])
    served.set(TYPE_LISTENER, {"l1": "2", "l2": "1", "l3": "1"})
    [second] = client.news()
    assert sent(second) == {"l1": "2", "l2": "1"}
