from __future__ import annotations

from typing import Any

import pytest

from discovery.kubernetes.catalog import Catalog
from discovery.kubernetes.wire import Key, Malformed
from mesh.model import (
    DISCOVERED_ENDPOINTS,
    DISCOVERED_SERVICES,
    DiscoveredEndpoints,
    DiscoveredEndpointsKey,
    DiscoveredService,
    DiscoveredServiceKey,
    Endpoint,
    Locality,
    ServicePort,
)
from mesh.tables import Change
from tests.support.kubernetes_objects import JSON, endpoint, endpoint_slice, node, pod, service

SOURCE = "kubernetes:one"
REVIEWS = DiscoveredServiceKey(SOURCE, "default", "reviews")


def part(name: str = "reviews-a", service: str = "reviews", namespace: str = "default") -> DiscoveredEndpointsKey:
    return DiscoveredEndpointsKey(SOURCE, namespace, service, name)


class Cluster:
    """A catalog and the rows that its changes add up to."""

    def __init__(self, *items: Any) -> None:
        self.catalog = Catalog(SOURCE)
        self.rows: dict[Any, Any] = {}
        self.put(*items)

    def put(self, *items: Any) -> tuple[Change, ...]:
        for item in items:
            self.catalog.put(item)
        return self.take()

    def remove(self, kind: Any, name: str, namespace: str = "default") -> tuple[Change, ...]:
        self.catalog.remove(kind, Key(namespace, name))
        return self.take()

    def take(self) -> tuple[Change, ...]:
        changes = self.catalog.take()
        for change in changes:
            if change.row is None:
                del self.rows[change.key]
            else:
                self.rows[change.key] = change.row
        return changes

    def endpoints(self, service: str = "reviews") -> list[Endpoint]:
        """All endpoints of a service, over its slices."""
        rows = [row for key, row in sorted(self.rows.items()) if isinstance(key, DiscoveredEndpointsKey)]
        names = [key.service for key in sorted(self.rows) if isinstance(key, DiscoveredEndpointsKey)]
        return [item for name, row in zip(names, rows, strict=True) if name == service for item in row.endpoints]

    def addresses(self) -> list[str]:
        return [item.address for item in self.endpoints()]


def test_a_service_and_its_slice_become_a_service_and_its_endpoints() -> None:
    changes = Cluster().put(service(labels={"team": "a"}), endpoint_slice("reviews-a", endpoint("10.0.0.1")))
    ports = (ServicePort("http", 80, "HTTP"),)
    assert changes == (
        Change(DISCOVERED_SERVICES, REVIEWS, DiscoveredService(ports, (("team", "a"),), ("*",))),
        Change(
            DISCOVERED_ENDPOINTS,
            part(),
            DiscoveredEndpoints((Endpoint("10.0.0.1", (("http", 8080),), health="Healthy"),)),
        ),
    )


def test_news_that_changes_nothing_of_what_is_used_makes_no_change() -> None:
    items = (service(), endpoint_slice("reviews-a", endpoint("10.0.0.1", pod="a")), pod("a", version="v1"), node("n"))
    assert Cluster(*items).put(*items) == ()


def test_a_slice_counts_from_when_its_service_is_there_until_it_goes() -> None:
    cluster = Cluster(endpoint_slice("reviews-a", endpoint("10.0.0.1")))
    assert cluster.rows == {}
    cluster.put(service())
    assert cluster.addresses() == ["10.0.0.1"]
    cluster.remove("Service", "reviews")
    assert cluster.rows == {}


def test_a_headless_service_has_its_endpoints_like_any_other() -> None:
    cluster = Cluster(service(clusterIP="None"), endpoint_slice("reviews-a", endpoint("10.0.0.1", pod="db-0")))
    assert cluster.addresses() == ["10.0.0.1"]


def test_slices_of_one_service_are_parts_that_change_alone() -> None:
    cluster = Cluster(
        service(),
        endpoint_slice("reviews-a", endpoint("10.0.0.1")),
        endpoint_slice("reviews-b", endpoint("10.0.0.2")),
    )
    changes = cluster.put(endpoint_slice("reviews-b", endpoint("10.0.0.3"), endpoint("10.0.0.2")))
    assert [change.key for change in changes] == [part("reviews-b")]
    assert cluster.addresses() == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert [change.row for change in cluster.remove("EndpointSlice", "reviews-a")] == [None]


def test_a_changed_service_does_not_touch_its_endpoints() -> None:
    cluster = Cluster(service(), endpoint_slice("reviews-a", endpoint("10.0.0.1")))
    assert [change.table for change in cluster.put(service(labels={"a": "b"}))] == [DISCOVERED_SERVICES]


def test_services_of_one_name_in_two_namespaces_are_two() -> None:
    cluster = Cluster(
        service(), service(namespace="other"), endpoint_slice("reviews-a", endpoint("10.0.0.1"), namespace="other")
    )
    assert part("reviews-a", namespace="other") in cluster.rows
    assert part("reviews-a") not in cluster.rows


def test_a_slice_that_is_given_to_another_service_moves() -> None:
    cluster = Cluster(service(), service("ratings"), endpoint_slice("shared", endpoint("10.0.0.1")))
    cluster.put(endpoint_slice("shared", endpoint("10.0.0.1"), service="ratings"))
    assert cluster.addresses() == []
    assert [item.address for item in cluster.endpoints("ratings")] == ["10.0.0.1"]


def test_a_slice_that_loses_its_label_belongs_to_no_service() -> None:
    cluster = Cluster(service(), endpoint_slice("reviews-a", endpoint("10.0.0.1")))
    cluster.put(endpoint_slice("reviews-a", endpoint("10.0.0.1"), service=None))
    assert cluster.addresses() == []


def test_a_slice_written_by_hand_has_endpoints_without_labels_or_account() -> None:
    cluster = Cluster(service(), endpoint_slice("by-hand", {"addresses": ["192.0.2.7"]}, ports=[("", 9376)]))
    assert cluster.endpoints() == [Endpoint("192.0.2.7", (("", 9376),), health="Healthy")]


def test_an_external_name_service_has_a_name_and_no_endpoints() -> None:
    cluster = Cluster(
        service(type="ExternalName", externalName="api.example.com"),
        endpoint_slice("reviews-a", endpoint("10.0.0.1")),
    )
    assert cluster.rows[REVIEWS].external_name == "api.example.com"
    assert cluster.addresses() == []
    cluster.put(service())
    assert cluster.addresses() == ["10.0.0.1"]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"ready": True, "serving": True, "terminating": False}, ["Healthy"]),
        ({"ready": None}, ["Healthy"]),
        ({"ready": False, "serving": False, "terminating": False}, []),
        ({"ready": False, "serving": True, "terminating": True}, ["Draining"]),
        ({"ready": False, "serving": False, "terminating": True}, []),
        ({"ready": False, "terminating": True}, []),
        ({"ready": False, "serving": True}, []),
        ({"ready": True, "serving": True, "terminating": True}, ["Healthy"]),
    ],
)
def test_conditions_say_whether_and_how_an_endpoint_is_used(conditions: JSON, expected: list[str]) -> None:
    cluster = Cluster(service(), endpoint_slice("reviews-a", endpoint("10.0.0.1", **conditions)))
    assert [item.health for item in cluster.endpoints()] == expected


def test_an_endpoint_without_an_address_is_left_out_and_of_several_the_first_counts() -> None:
    cluster = Cluster(
        service(), endpoint_slice("reviews-a", {"addresses": None}, {"addresses": ["10.0.0.1", "10.0.0.2"]})
    )
    assert cluster.addresses() == ["10.0.0.1"]


def test_ports_without_a_number_and_sctp_ports_are_left_out() -> None:
    cluster = Cluster(service(), endpoint_slice("reviews-a", endpoint("10.0.0.1"), ports=[("any", None), ("http", 8)]))
    assert cluster.endpoints()[0].ports == (("http", 8),)


# -- places


def test_hints_say_for_which_zones_an_endpoint_is() -> None:
    hinted = endpoint("10.0.0.1", for_zones=("eu-b", "eu-a", "eu-a"))
    cluster = Cluster(service(), endpoint_slice("reviews-a", hinted, endpoint("10.0.0.2")))
    assert [item.for_zones for item in cluster.endpoints()] == [("eu-a", "eu-b"), ()]


def test_hints_say_for_which_nodes_an_endpoint_is() -> None:
    hinted = endpoint("10.0.0.1", for_zones=("eu-a",), for_nodes=("n2", "n1"))
    cluster = Cluster(service(), endpoint_slice("reviews-a", hinted, endpoint("10.0.0.2", for_nodes=("n2",))))
    assert [(item.for_zones, item.for_nodes) for item in cluster.endpoints()] == [
        (("eu-a",), ("n1", "n2")),
        ((), ("n2",)),
    ]


def test_the_zone_of_a_node_is_what_its_label_says() -> None:
    cluster = Cluster(node("n1", region="eu", zone="eu-a"), node("n2"))
    assert [cluster.catalog.zone_of_node(name) for name in ("n1", "n2", "unheard-of")] == ["eu-a", "", ""]


def test_the_zone_is_the_endpoints_own_and_the_region_its_nodes() -> None:
    cluster = Cluster(
        service(),
        node("n1", region="eu", zone="eu-a"),
        endpoint_slice(
            "reviews-a",
            endpoint("10.0.0.1", node="n1", zone="eu-b"),
            endpoint("10.0.0.2", node="n1"),
            endpoint("10.0.0.3", zone="eu-c"),
            endpoint("10.0.0.4", node="unheard-of"),
        ),
    )
    assert [item.locality for item in cluster.endpoints()] == [
        Locality("eu", "eu-b"),
        Locality("eu", "eu-a"),
        Locality("", "eu-c"),
        Locality(),
    ]


def test_a_node_that_changes_touches_the_slices_on_it_and_no_others() -> None:
    cluster = Cluster(
        service(),
        endpoint_slice("reviews-a", endpoint("10.0.0.1", node="n1")),
        endpoint_slice("reviews-b", endpoint("10.0.0.2", node="n2")),
    )
    assert [change.key for change in cluster.put(node("n1", region="eu", zone="a"))] == [part("reviews-a")]
    assert cluster.put(node("n3", region="eu")) == ()
    assert [change.key for change in cluster.remove("Node", "n1", "")] == [part("reviews-a")]
    assert {item.locality for item in cluster.endpoints()} == {Locality()}


# -- workloads


def test_labels_and_account_are_those_of_the_pod_even_if_it_comes_later() -> None:
    cluster = Cluster(service(), endpoint_slice("reviews-a", endpoint("10.0.0.1", pod="reviews-1")))
    assert cluster.endpoints()[0].labels == ()
    changes = cluster.put(pod("reviews-1", account="reviews", version="v1", app="reviews"))
    assert [change.key for change in changes] == [part()]
    (found,) = cluster.endpoints()
    assert found.labels == (("app", "reviews"), ("version", "v1"))
    assert found.service_account == "reviews"
    assert not found.mesh_tls


def test_a_pod_that_says_so_is_spoken_to_over_mutual_tls_if_it_has_an_account_to_be_known_by() -> None:
    cluster = Cluster(service(), endpoint_slice("reviews-a", endpoint("10.0.0.1", pod="reviews-1")))
    label = {"fairlead.dev/mesh-tls": "true"}
    cluster.put(pod("reviews-1", account="reviews", **label))
    assert cluster.endpoints()[0].mesh_tls
    cluster.put(pod("reviews-1", account="", **label))
    assert not cluster.endpoints()[0].mesh_tls
    cluster.put(pod("reviews-1", account="reviews", **{"fairlead.dev/mesh-tls": "no"}))
    assert not cluster.endpoints()[0].mesh_tls


def test_a_pods_new_labels_reach_every_slice_that_names_it_and_no_others() -> None:
    cluster = Cluster(
        service(),
        service("all"),
        pod("a", version="v1"),
        endpoint_slice("reviews-a", endpoint("10.0.0.1", pod="a")),
        endpoint_slice("reviews-b", endpoint("10.0.0.2", pod="b")),
        endpoint_slice("all-a", endpoint("10.0.0.1", pod="a"), service="all"),
    )
    changes = cluster.put(pod("a", version="v2"))
    assert [change.key for change in changes] == [part("all-a", "all"), part("reviews-a")]
    assert [item.labels for item in cluster.endpoints("all")] == [(("version", "v2"),)]


def test_a_pod_of_another_namespace_or_another_kind_of_target_gives_nothing() -> None:
    other = {**endpoint("10.0.0.2", pod="a"), "targetRef": {"kind": "VirtualMachine", "name": "a"}}
    cluster = Cluster(
        service(),
        pod("a", version="v1"),
        pod("b", "elsewhere", version="v1"),
        endpoint_slice("reviews-a", endpoint("10.0.0.1", pod="b"), other),
    )
    assert [item.labels for item in cluster.endpoints()] == [(), ()]


def test_a_pod_that_is_gone_leaves_its_endpoint_bare_until_the_slice_drops_it() -> None:
    cluster = Cluster(service(), pod("a", version="v1"), endpoint_slice("reviews-a", endpoint("10.0.0.1", pod="a")))
    cluster.remove("Pod", "a")
    assert [item.labels for item in cluster.endpoints()] == [()]


# -- dual stack


def dual(*v4: str, v6: tuple[str, ...] = ()) -> list[Any]:
    return [
        endpoint_slice("reviews-4", *(endpoint(address) for address in v4)),
        endpoint_slice("reviews-6", *(endpoint(address) for address in v6), family="IPv6"),
    ]


@pytest.mark.parametrize(
    ("families", "expected"),
    [(["IPv4", "IPv6"], "10.0.0.1"), (["IPv6", "IPv4"], "fd00::1"), (["IPv6"], "fd00::1"), (None, "10.0.0.1")],
)
def test_of_both_families_the_services_first_counts(families: Any, expected: str) -> None:
    cluster = Cluster(service(ipFamilies=families), *dual("10.0.0.1", v6=("fd00::1",)))
    assert cluster.addresses() == [expected]


def test_an_empty_slice_of_the_first_family_does_not_hide_the_other() -> None:
    cluster = Cluster(service(ipFamilies=["IPv6", "IPv4"]), *dual("10.0.0.1"))
    assert cluster.addresses() == ["10.0.0.1"]
    cluster.put(*dual("10.0.0.1", v6=("fd00::1",)))
    assert cluster.addresses() == ["fd00::1"]
    unready = endpoint_slice("reviews-6", endpoint("fd00::1", ready=False), family="IPv6")
    cluster.put(unready)
    assert cluster.addresses() == ["10.0.0.1"]


def test_a_service_whose_first_family_changes_has_its_endpoints_changed_over() -> None:
    cluster = Cluster(service(ipFamilies=["IPv4", "IPv6"]), *dual("10.0.0.1", v6=("fd00::1",)))
    cluster.put(service(ipFamilies=["IPv6", "IPv4"]))
    assert cluster.addresses() == ["fd00::1"]


def test_names_count_only_where_there_are_no_ip_addresses() -> None:
    names = endpoint_slice("by-name", endpoint("db.example.com"), family="FQDN")
    cluster = Cluster(service(), names)
    assert cluster.addresses() == ["db.example.com"]
    cluster.put(endpoint_slice("reviews-a", endpoint("10.0.0.1")))
    assert cluster.addresses() == ["10.0.0.1"]


# -- lists, malformed objects, and what is kept


def test_what_a_new_list_lacks_is_gone() -> None:
    cluster = Cluster(
        service(),
        service("ratings"),
        endpoint_slice("reviews-a", endpoint("10.0.0.1", pod="a", node="n")),
        pod("a", version="v1"),
        node("n", region="eu"),
    )
    cluster.catalog.retain("Service", [Key("default", "reviews")])
    assert [change.key for change in cluster.take()] == [DiscoveredServiceKey(SOURCE, "default", "ratings")]
    cluster.catalog.retain("Pod", [])
    cluster.catalog.retain("Node", [])
    cluster.take()
    assert cluster.endpoints() == [Endpoint("10.0.0.1", (("http", 8080),), health="Healthy")]
    cluster.catalog.retain("EndpointSlice", [])
    cluster.take()
    assert cluster.addresses() == []


def test_a_malformed_object_is_one_problem_and_its_last_good_form_stands() -> None:
    cluster = Cluster(service())
    cluster.catalog.reject(
        "Service", Malformed(Key("default", "reviews"), "Expected `int`, got `str`", "spec.ports[0].port")
    )
    assert cluster.take() == ()
    (problem,) = cluster.catalog.problems
    assert (problem.code, problem.path) == ("MalformedObject", "spec.ports[0].port")
    assert problem.file == f"{SOURCE} Service default/reviews"
    cluster.put(service())
    assert cluster.catalog.problems == ()


def test_a_problem_goes_with_its_object() -> None:
    cluster = Cluster(service(export_to="!"))
    cluster.catalog.reject("Pod", Malformed(Key("default", "a"), "…"))
    assert [problem.code for problem in cluster.catalog.problems] == ["MalformedObject", "InvalidExportTo"]
    cluster.catalog.retain("Pod", [])
    cluster.remove("Service", "reviews")
    assert cluster.catalog.problems == ()


def test_removing_what_never_was_changes_nothing() -> None:
    cluster = Cluster()
    for kind in ("Service", "EndpointSlice", "Pod", "Node"):
        assert cluster.remove(kind, "ghost") == ()


def test_nothing_is_kept_of_what_is_gone() -> None:
    empty = {name: bool(value) for name, value in vars(Catalog(SOURCE)).items()}
    cluster = Cluster(
        service(),
        endpoint_slice("reviews-a", endpoint("10.0.0.1", pod="a", node="n")),
        endpoint_slice("reviews-b", endpoint("10.0.0.1", pod="a", node="n")),
        pod("a", version="v1"),
        node("n", region="eu"),
    )
    cluster.remove("Service", "reviews")
    cluster.remove("Pod", "a")
    cluster.remove("EndpointSlice", "reviews-a")
    cluster.remove("Node", "n", "")
    cluster.remove("EndpointSlice", "reviews-b")
    assert {name: bool(value) for name, value in vars(cluster.catalog).items()} == empty
