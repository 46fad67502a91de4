from __future__ import annotations

from mesh.model import (
    DISCOVERED_ENDPOINTS,
    DISCOVERED_SERVICES,
    Audience,
    DiscoveredEndpoints,
    DiscoveredEndpointsKey,
    DiscoveredService,
    DiscoveredServiceKey,
    Endpoint,
    Locality,
    ServiceKey,
    ServicePort,
)
from mesh.services import (
    ENDPOINTS,
    SERVICES,
    SUBSETS,
    VISIBLE,
    VISIBLE_PARTS,
    ClientsKey,
    Subset,
    SubsetKey,
    visible_part,
)
from mesh.tables import Change, Commit
from tests.support.model import Model

REVIEWS = ServiceKey("default", "reviews")
OURS = """
kind: Service
metadata: {name: reviews, labels: {team: a}}
spec:
  ports: [{name: http, port: 80}, {name: admin, port: 9000}]
  exportTo: [shop]
  endpoints:
  - {address: 10.0.0.2, ports: {http: 9002}, labels: {version: v2}, weight: 2, zone: b, health: Healthy}
  - {address: 10.0.0.1, ports: {http: 9001, admin: 9}, labels: {version: v1}}
"""


def addresses(model: Model, key: ServiceKey = REVIEWS) -> list[str]:
    row = model.engine.get(ENDPOINTS, key)
    assert row is not None
    return [endpoint.address for endpoint in row.endpoints]


def tables(commit: Commit) -> set[str]:
    return {table.name for table in commit.changes}


def test_a_service_object_becomes_a_service_and_its_endpoints() -> None:
    model = Model()
    model.apply(OURS)
    service = model.engine.get(SERVICES, REVIEWS)
    assert service is not None
    assert service.ports == (ServicePort("http", 80, "HTTP"), ServicePort("admin", 9000, "HTTP"))
    assert service.own
    assert service.labels == (("team", "a"),)
    row = model.engine.get(ENDPOINTS, REVIEWS)
    assert row is not None
    first, second = row.endpoints
    assert first.ports == (("admin", 9), ("http", 9001))
    assert (second.weight, second.locality.zone, second.health) == (2, "b", "Healthy")


def test_a_port_that_an_endpoint_leaves_out_is_served_at_the_service_s_own_number() -> None:
    model = Model()
    model.apply(OURS)
    row = model.engine.get(ENDPOINTS, REVIEWS)
    assert row is not None
    assert row.endpoints[1].ports == (("admin", 9000), ("http", 9002))


def test_services_of_one_name_merge_their_ports_labels_and_endpoints() -> None:
    model = Model()
    model.apply(OURS)
    model.discover("reviews", "10.1.0.1", ports=[("web", 80, 8080), ("grpc", 7000, 7000)], labels=(("app", "r"),))
    model.discover("reviews", "10.2.0.1", source="consul:dc1")
    service = model.engine.get(SERVICES, REVIEWS)
    assert service is not None
    assert [(port.name, port.port) for port in service.ports] == [("http", 80), ("grpc", 7000), ("admin", 9000)]
    assert service.labels == (("app", "r"), ("team", "a"))
    assert service.sources == ("fairlead.dev", "consul:dc1", "kubernetes:one")
    assert addresses(model) == ["10.0.0.1", "10.0.0.2", "10.1.0.1", "10.2.0.1"]
    own = model.engine.get(ENDPOINTS, REVIEWS)
    assert own is not None
    assert [endpoint.address for endpoint in own.own] == ["10.0.0.1", "10.0.0.2"]


def test_sources_that_name_a_port_otherwise_meet_by_its_number() -> None:
    model = Model()
    model.apply(OURS)
    model.discover("reviews", "10.1.0.1", ports=[("web", 80, 8080)])
    row = model.engine.get(ENDPOINTS, REVIEWS)
    assert row is not None
    assert row.endpoints[2] == Endpoint("10.1.0.1", (("http", 8080),))


def test_a_service_without_endpoints_has_an_empty_row() -> None:
    model = Model()
    model.discover("reviews")
    assert addresses(model) == []


def test_endpoints_of_no_known_service_make_no_service() -> None:
    model = Model()
    model.discover("reviews", "10.1.0.1")
    key = next(iter(model.engine.rows(DISCOVERED_ENDPOINTS)))
    other = Model()
    other.engine.commit([Change(DISCOVERED_ENDPOINTS, key, model.engine.get(DISCOVERED_ENDPOINTS, key))])
    assert other.engine.rows(SERVICES) == {}
    assert other.engine.rows(ENDPOINTS) == {}


def test_a_moved_endpoint_changes_its_endpoints_row_and_nothing_else() -> None:
    model = Model()
    for number in range(20):
        model.discover(f"s{number}", "10.1.0.1")
    model.connect(Audience("sidecar", "default", "s1", 80))
    commit = model.discover("s3", "10.1.0.2")
    assert tables(commit) == {"discovered_endpoints", "endpoints"}
    assert commit.computed == 1
    assert addresses(model, ServiceKey("default", "s3")) == ["10.1.0.2"]


def test_a_moved_endpoint_in_a_service_object_leaves_the_service_equal() -> None:
    model = Model()
    model.apply(OURS)
    commit = model.apply(OURS.replace("10.0.0.2", "10.0.0.3"))
    assert tables(commit) == {"declared", "objects", "endpoints"}


def test_parts_of_one_service_are_joined_and_an_emptied_part_leaves() -> None:
    model = Model()
    model.discover("reviews", "10.1.0.1", part="ipv4")
    model.discover("reviews", "fd00::1", part="ipv6")
    assert addresses(model) == ["10.1.0.1", "fd00::1"]
    model.discover("reviews", part="ipv6")
    assert addresses(model) == ["10.1.0.1"]


def test_a_namespace_sees_its_own_services_and_those_exported_to_it() -> None:
    model = Model()
    model.apply(OURS)
    model.discover("private", "10.1.0.1")
    model.discover("local", "10.1.0.1", export_to=(".",))
    model.discover("public", "10.1.0.1", namespace="other", export_to=("*",))
    for namespace in ("default", "shop", "third"):
        model.connect(Audience("grpc", namespace))

    def seen(namespace: str) -> set[str]:
        clients = ClientsKey(namespace, grpc=True)
        rows = (row for key, row in model.engine.rows(VISIBLE).items() if key.clients == clients)
        return {key.name for row in rows for key in row.services}

    assert seen("default") == {"local", "private", "reviews", "public"}
    assert seen("shop") == {"reviews", "public"}
    assert seen("third") == {"public"}


def test_a_new_service_touches_one_part_of_what_clients_see() -> None:
    model = Model()
    for number in range(300):
        model.discover(f"s{number}", "10.1.0.1")
    model.connect(Audience("grpc", "default"))
    assert len(model.engine.rows(VISIBLE)) == VISIBLE_PARTS
    [(key, _)] = model.discover("new", "10.1.0.1").of(VISIBLE).items()
    assert key.part == visible_part(ServiceKey("default", "new"))


def test_only_namespaces_with_clients_have_visible_rows() -> None:
    model = Model()
    model.discover("reviews", "10.1.0.1")
    model.connect(Audience("gateway", "default", "edge"))
    assert model.engine.rows(VISIBLE) == {}


def test_a_subset_chooses_endpoints_that_carry_all_its_labels() -> None:
    model = Model()
    model.apply(OURS)
    model.apply("{kind: ServiceSubset, metadata: {name: v2}, spec: {service: reviews, labels: {version: v2}}}")
    subset = model.engine.get(SUBSETS, SubsetKey("default", "v2"))
    row = model.engine.get(ENDPOINTS, REVIEWS)
    assert subset is not None
    assert row is not None
    assert subset.service == REVIEWS
    assert [endpoint.address for endpoint in subset.arranged(row.endpoints)] == ["10.0.0.2"]


def test_who_takes_over_in_a_subset_comes_after_all_that_are_wanted_more_wherever_they_are() -> None:
    def one(address: str, priority: int = 0, **labels: str) -> Endpoint:
        return Endpoint(address, (("", 80),), labels=tuple(sorted(labels.items())), priority=priority)

    ends = [
        one("a", far := 1, tag="a"),
        one("a+b", tag="a", other="b"),
        one("b", other="b"),
        one("b-far", far, other="b"),
    ]
    ends.append(one("none"))
    subset = Subset(REVIEWS, (("tag", "a"),), ((("other", "b"),),))

    def arranged(subset: Subset, *ends: Endpoint, **more: bool) -> dict[str, int]:
        return {end.address: end.priority for end in subset.arranged(ends, **more)}

    assert arranged(subset, *ends) == {"a": 1, "a+b": 0, "b": 2, "b-far": 3}
    assert arranged(subset, *ends, any_endpoint=True) == {"a": 1, "a+b": 0, "b": 2, "b-far": 3, "none": 4}
    assert arranged(subset, *ends[2:]) == {"b": 0, "b-far": 1}
    assert arranged(subset, ends[-1]) == {}
    assert arranged(subset, ends[-1], any_endpoint=True) == {"none": 0}


def test_an_external_name_is_kept() -> None:
    model = Model()
    model.discover("reviews", external_name="reviews.example.com")
    service = model.engine.get(SERVICES, REVIEWS)
    assert service is not None
    assert service.external_name == "reviews.example.com"


def test_service_of_kubernetes_and_consul_is_one_with_the_endpoints_of_both() -> None:
    model = Model()
    port = ServicePort("web", 8080, "HTTP")
    pods = DiscoveredEndpoints((Endpoint("10.1.0.1", (("web", 8081),), locality=Locality("r", "z"), health="Healthy"),))
    instance = Endpoint("10.2.0.1", (("", 9000),), weight=3, locality=Locality("dc1"), health="Healthy")
    far = Endpoint("10.3.0.1", (("", 9000),), locality=Locality("dc2"), health="Healthy", priority=1)
    told = {
        "kubernetes:default": (port, pods),
        "consul": (ServicePort("", 8080, "HTTP"), DiscoveredEndpoints((instance,))),
        "consul:dc2": (ServicePort("", 8080, "HTTP"), DiscoveredEndpoints((far,))),
    }
    model.engine.commit(
        change
        for source, (named, endpoints) in told.items()
        for change in (
            Change(DISCOVERED_SERVICES, DiscoveredServiceKey(source, *REVIEWS), DiscoveredService(ports=(named,))),
            Change(DISCOVERED_ENDPOINTS, DiscoveredEndpointsKey(source, *REVIEWS, "x"), endpoints),
        )
    )
    service = model.engine.get(SERVICES, REVIEWS)
    assert service is not None
    assert service.sources == ("consul", "consul:dc2", "kubernetes:default")
    assert len(service.ports) == 1
    row = model.engine.get(ENDPOINTS, REVIEWS)
    assert row is not None
    assert [(each.address, each.ports, each.weight, each.priority) for each in row.endpoints] == [
        ("10.1.0.1", ((service.ports[0].name, 8081),), 1, 0),
        ("10.2.0.1", ((service.ports[0].name, 9000),), 3, 0),
        ("10.3.0.1", ((service.ports[0].name, 9000),), 1, 1),
    ]
    assert [each.locality.region for each in row.endpoints] == ["r", "dc1", "dc2"]
