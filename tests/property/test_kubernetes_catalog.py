"""The law of the catalog: whatever order a cluster's news came in, the rows are those of a fresh start."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.kubernetes.catalog import KINDS, Catalog
from discovery.kubernetes.wire import EndpointSlice, Key, Node, Pod, Service
from tests.support.kubernetes_objects import endpoint, endpoint_slice, node, pod, service

SOURCE = "kubernetes:one"
STRUCTS = dict(zip(KINDS, (Service, EndpointSlice, Pod, Node), strict=True))

names = st.sampled_from(["a", "b"])
namespaces = st.sampled_from(["default"] * 8 + ["other"])
addresses = {"IPv4": "10.0.0.{}", "IPv6": "fd00::{}", "FQDN": "h{}.example.com"}
conditions = st.sampled_from(
    [{"ready": True}, {"ready": False}, {"ready": False, "serving": True, "terminating": True}]
)
services = st.builds(
    service,
    names,
    namespace=namespaces,
    labels=st.sampled_from([None, {"team": "x"}]),
    type=st.sampled_from(["ClusterIP", "ClusterIP", "ExternalName"]),
    externalName=st.sampled_from([None, "api.example.com"]),
    ipFamilies=st.sampled_from([["IPv4", "IPv6"], ["IPv6"], None]),
)
pods = st.builds(
    lambda name, namespace, account, version: pod(name, namespace, account=account, version=version),
    names,
    namespaces,
    st.sampled_from(["x", "y"]),
    st.sampled_from(["v1", "v2"]),
)
nodes = st.builds(node, st.sampled_from(["n1", "n2"]), region=st.sampled_from(["", "eu"]), zone=names)


@st.composite
def slices(draw: st.DrawFn) -> EndpointSlice:
    family = draw(st.sampled_from(sorted(addresses)))
    endpoints = [
        endpoint(
            addresses[family].format(draw(st.integers(1, 3))),
            pod=draw(st.sampled_from(["", "a", "b"])),
            node=draw(st.sampled_from([None, "n1", "n2"])),
            zone=draw(st.sampled_from([None, "z"])),
            for_nodes=draw(st.sampled_from([(), ("n1",), ("n2", "n1")])),
            **draw(conditions),
        )
        for _ in range(draw(st.integers(0, 3)))
    ]
    return endpoint_slice(
        draw(st.sampled_from(["s1", "s2", "s3"])),
        *endpoints,
        service=draw(st.sampled_from(["a"] * 6 + ["b", None])),
        namespace=draw(namespaces),
        family=family,
    )


items = st.one_of(services, slices(), pods, nodes)
keys = {
    "Service": st.builds(Key, namespaces, names),
    "EndpointSlice": st.builds(Key, namespaces, st.sampled_from(["s1", "s2", "s3"])),
    "Pod": st.builds(Key, namespaces, names),
    "Node": st.builds(Key, st.just(""), st.sampled_from(["n1", "n2"])),
}


@st.composite
def steps(draw: st.DrawFn) -> tuple[str, Any]:
    """A verb and what it is about; mostly objects that come or change."""
    verb = draw(st.sampled_from(["put"] * 12 + ["remove"] * 3 + ["retain"]))
    if verb == "put":
        return verb, draw(items)
    kind = draw(st.sampled_from(KINDS))
    return verb, (kind, draw(keys[kind] if verb == "remove" else st.lists(keys[kind], max_size=3)))


def kind_of(item: Any) -> str:
    return next(kind for kind, struct in STRUCTS.items() if isinstance(item, struct))


def rows(changes: Any, known: dict[Any, Any] | None = None) -> dict[Any, Any]:
    found = dict(known or {})
    for change in changes:
        # A change that changes nothing would be work for nothing all the way down.
        assert found.get((change.table.name, change.key)) != change.row
        found[change.table.name, change.key] = change.row
    return {at: row for at, row in found.items() if row is not None}


def fresh(objects: Any) -> Catalog:
    catalog = Catalog(SOURCE)
    for item in objects:
        catalog.put(item)
    return catalog


def kept(catalog: Catalog) -> dict[str, Any]:
    """How much is kept, and which slices name which Pods and Nodes."""
    pods = {(namespace, name): entry for namespace, pods in catalog._pods.items() for name, entry in pods.items()}
    return {
        **{name: len(value) for name, value in vars(catalog).items() if name != "_all_problems"},  # a cache
        "pods": {at: (entry.workload, sorted(entry.slices)) for at, entry in pods.items()},
        "nodes": {name: (entry.place, sorted(entry.slices)) for name, entry in catalog._nodes.items()},
        "uses": dict(catalog._uses),
    }


@settings(max_examples=250)
@given(st.lists(st.tuples(steps(), st.booleans()), min_size=15, max_size=60), st.randoms(use_true_random=False))
def test_any_order_of_news_ends_in_the_rows_of_a_fresh_start(news: list[tuple[Any, bool]], random: Any) -> None:
    catalog = Catalog(SOURCE)
    truth: dict[tuple[str, Key], Any] = {}
    known: dict[Any, Any] = {}
    for (verb, what), take in news:
        if verb == "put":
            catalog.put(what)
            truth[kind_of(what), what.metadata.key] = what
        elif verb == "remove":
            catalog.remove(*what)
            truth.pop(what, None)
        else:
            catalog.retain(*what)
            truth = {at: item for at, item in truth.items() if at[0] != what[0] or at[1] in what[1]}
        if take:
            known = rows(catalog.take(), known)
    known = rows(catalog.take(), known)
    assert catalog.take() == ()

    shuffled = list(truth.values())
    random.shuffle(shuffled)
    again = fresh(shuffled)
    assert known == rows(again.take())
    assert kept(catalog) == kept(again)


@given(st.lists(items, max_size=30))
def test_changes_come_sorted_whatever_order_the_news_had(news: list[Any]) -> None:
    changes = fresh(news).take()
    at = [(change.table.name == "discovered_endpoints", change.key) for change in changes]
    assert at == sorted(at)
