from __future__ import annotations

import pytest

from tests.support.xds_script import Script, Served, sent
from xds.protocol.rejections import PROBES, blamed, halves
from xds.schema.type_urls import TYPE_CLUSTER, TYPE_LISTENER, TYPE_ROUTE


def having(type_url: str, versions: dict[str, str], variant: str = "delta") -> tuple[Served, Script]:
    served = Served()
    served.set(type_url, versions)
    client = Script(served, variant)
    [first] = client.ask(type_url)
    assert client.ack(first) == []
    return served, client


@pytest.mark.parametrize("variant", ["delta", "sotw"])
def test_s6_a_refused_version_is_never_sent_again_and_a_new_one_is(variant: str) -> None:
    served, client = having(TYPE_LISTENER, {"l1": "1", "l2": "1"}, variant)
    served.set(TYPE_LISTENER, {"l1": "bad", "l2": "1"})
    [bad] = client.news()
    assert client.nack(bad, "Error adding/updating listener(s) l1: no") == []
    assert client.news() == []
    assert client.wait(3_600) == []
    served.set(TYPE_LISTENER, {"l1": "2", "l2": "1"})
    [good] = client.news()
    assert sent(good)["l1"] == "2"


def test_the_report_names_what_was_refused_and_what_the_proxy_said() -> None:
    served, client = having(TYPE_CLUSTER, {"a": "1", "b": "1"})
    served.set(TYPE_CLUSTER, {"a": "2", "b": "2"})
    [bad] = client.news()
    client.nack(bad, "Error adding/updating cluster(s) b: weights overflow")
    nacked = client.heard[-1].nacked
    assert nacked is not None
    assert nacked.versions == {"b": "2"}
    assert nacked.detail == "Error adding/updating cluster(s) b: weights overflow"


def test_of_clusters_the_good_ones_of_a_refused_response_count_as_taken() -> None:
    served, client = having(TYPE_CLUSTER, {"a": "1", "b": "1"})
    served.set(TYPE_CLUSTER, {"a": "2", "b": "2"})
    [bad] = client.news()
    assert client.nack(bad, "cluster(s) b: no") == []
    held = client.stream.types[TYPE_CLUSTER].held
    assert {name: entry.version for name, entry in held.entries.items()} == {"a": "2", "b": "1"}


def test_of_routes_the_others_of_a_refused_response_are_sent_again_without_the_bad_one() -> None:
    served, client = having(TYPE_ROUTE, {"a": "1", "b": "1"})
    served.set(TYPE_ROUTE, {"a": "2", "b": "2"})
    [bad] = client.news()
    [again] = client.nack(bad, "route b: no")
    assert sent(again) == {"a": "2"}


def test_a_refusal_that_names_nobody_is_narrowed_down_by_sending_parts() -> None:
    names = dict.fromkeys("abcdefgh", "1")
    served, client = having(TYPE_ROUTE, names)
    served.set(TYPE_ROUTE, dict.fromkeys(names, "2"))
    [response] = client.news()
    sizes = []
    while response is not None:
        parts = sent(response)
        sizes.append(len(parts))
        answers = client.nack(response, "something is wrong") if "f" in parts else client.ack(response)
        response = answers[0] if answers else None
    assert sizes[0] == 8
    assert len(sizes) <= 8
    state = client.stream.types[TYPE_ROUTE]
    assert state.rejected == {"f": "2"}
    assert {name for name, entry in state.held.entries.items() if entry.version == "2"} == set("abcdegh")


def test_a_proxy_that_refuses_everything_is_left_alone_after_a_bounded_number_of_tries() -> None:
    names = [f"route-{i}" for i in range(1_000)]
    served, client = having(TYPE_ROUTE, dict.fromkeys(names, "1"))
    served.set(TYPE_ROUTE, dict.fromkeys(names, "2"))
    [response] = client.news()
    tries = 0
    while response is not None:
        tries += 1
        answers = client.nack(response, "no")
        response = answers[0] if answers else None
    assert tries <= 2 * PROBES + 12
    assert client.news() == []


def test_a_response_of_one_resource_is_blamed_whatever_the_text_says() -> None:
    served, client = having(TYPE_ROUTE, {"a": "1", "b": "1"})
    served.set(TYPE_ROUTE, {"a": "1", "b": "2"})
    [bad] = client.news()
    assert client.nack(bad, "") == []
    assert client.stream.types[TYPE_ROUTE].rejected == {"b": "2"}


def test_the_last_good_version_in_its_place_is_not_sent_to_who_still_has_it() -> None:
    served, client = having(TYPE_ROUTE, {"a": "1"})
    before = served.contents[TYPE_ROUTE]
    served.set(TYPE_ROUTE, {"a": "2"})
    [bad] = client.news()
    client.nack(bad, "no")
    served.contents[TYPE_ROUTE] = before
    assert client.news() == []
    [to_a_new_one] = Script(served).ask(TYPE_ROUTE)
    assert sent(to_a_new_one) == {"a": "1"}


def test_a_resource_that_never_had_a_good_version_is_not_held_after_its_refusal() -> None:
    served, client = having(TYPE_LISTENER, {"l1": "1"})
    served.set(TYPE_LISTENER, {"l1": "1", "l2": "1"})
    [bad] = client.news()
    client.nack(bad, "l2")
    assert client.stream.types[TYPE_LISTENER].held.get("l2") is None


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        ("Error adding/updating cluster(s) ns/a:80: x, ns/b:80: y", {"ns/a:80", "ns/b:80"}),
        ("Error adding/updating cluster(s) ns/a:8080: x", {"ns/a:8080"}),
        ("Error adding/updating cluster(s) other-ns/a:80: x", set()),
        ("[resource index 0: ns/b:80: INVALID_ARGUMENT]", {"ns/b:80"}),
        ("no name in it", set()),
    ],
)
def test_a_name_is_blamed_only_where_the_text_holds_it_whole(detail: str, expected: set[str]) -> None:
    assert blamed(["ns/a:80", "ns/a:8080", "ns/b:80"], detail) == expected


def test_halves_cover_everything_once() -> None:
    assert halves(["c", "a", "b"]) == (frozenset("ab"), frozenset("c"))
    assert halves(["a"]) == (frozenset("a"),)
