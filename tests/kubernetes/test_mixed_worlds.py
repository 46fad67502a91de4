"""Kubernetes, files and REST at once, with a real Envoy: what refers across them, what merges, and who wins a clash."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import ssl
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from fairlead.client import RefusedError
from fairlead.processes import Children, free_port
from tests.support.api_line import line_to
from tests.support.certificates import Authority, Pair
from tests.support.kubernetes import JSON, Cluster, condition, eventually
from tests.support.programs import Serving, ask, start_backend, start_envoy, start_serve

GATEWAY_API = "gateway.networking.k8s.io/v1"
FAIRLEAD = "fairlead.dev/v1alpha1"


def route(name: str, path: str, backend: str, **spec: Any) -> JSON:
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": path}}],
        "backendRefs": [{"name": backend, "port": 80}],
    }
    return {
        "apiVersion": GATEWAY_API,
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {"parentRefs": [{"name": "edge"}], "rules": [rule], **spec},
    }


def own_route(name: str, path: str, backend: str) -> JSON:
    """A route to a Service of our own kind."""
    made = route(name, path, backend)
    made["spec"]["rules"][0]["backendRefs"][0] |= {"group": FAIRLEAD.partition("/")[0], "kind": "Service"}
    return made


def gateway(port: int, secure_port: int) -> JSON:
    tls = {"certificateRefs": [{"name": "tls"}]}
    return {
        "apiVersion": GATEWAY_API,
        "kind": "Gateway",
        "metadata": {"name": "edge"},
        "spec": {
            "gatewayClassName": "fairlead",
            "listeners": [
                {"name": "http", "port": port, "protocol": "HTTP"},
                {"name": "https", "port": secure_port, "protocol": "HTTPS", "tls": tls},
            ],
        },
    }


def own_service(name: str, port: int) -> JSON:
    spec = {"ports": [{"name": "http", "port": 80}], "endpoints": [{"address": "127.0.0.1", "ports": {"http": port}}]}
    return {"apiVersion": FAIRLEAD, "kind": "Service", "metadata": {"name": name}, "spec": spec}


def secret(pair: Pair) -> JSON:
    files = {"tls.crt": pair.cert, "tls.key": pair.key}
    data = {name: base64.b64encode(path.read_bytes()).decode() for name, path in files.items()}
    metadata = {"name": "tls"}
    return {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "data": data}


def discovered_service() -> tuple[JSON, JSON]:
    """A Service with an endpoint in Kubernetes; kube-proxy leaves it alone."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "labels": {"service.kubernetes.io/service-proxy-name": "none"}},
        "spec": {"clusterIP": "None", "ports": [{"name": "web", "port": 80}]},
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.1.0.1"]}],
    }
    return service, endpoints


class World:
    """A running Fairlead that watches one namespace of the cluster and one folder of files, and its store."""

    def __init__(
        self, children: Children, cluster: Cluster, namespace: str, folder: Path, clusters: Sequence[str] = ()
    ) -> None:
        self._clusters = clusters or ("--kubernetes", str(cluster.kubeconfig))
        self._cluster = cluster
        self._folder = folder
        self._children = children
        self.namespace = namespace
        self.serving = self._start()

    def _start(self) -> Serving:
        return start_serve(
            self._children,
            *(*self._clusters, "--kubernetes-namespaces", self.namespace),
            *("--kubernetes-lease", f"{self.namespace}/fairlead", "--files", str(self._folder)),
        )

    def in_cluster(self, *items: JSON) -> None:
        self._cluster.apply(*items, namespace=self.namespace)

    def in_file(self, name: str, *items: JSON) -> None:
        documents = [{**item, "metadata": {"namespace": self.namespace, **item["metadata"]}} for item in items]
        (self._folder / f"{name}.yaml").write_text("\n---\n".join(json.dumps(item) for item in documents))

    def path(self, plural: str, name: str) -> str:
        return f"/api/v1/namespaces/{self.namespace}/{plural}/{name}"

    def over_rest(self, plural: str, item: JSON) -> None:
        self.serving.client.request("PUT", self.path(plural, item["metadata"]["name"]), body=item)

    def get(self, plural: str, name: str) -> JSON:
        try:
            return self.serving.client.request("GET", self.path(plural, name)).json()
        except RefusedError as refused:
            if refused.status == 404:
                raise LookupError(str(refused)) from None
            raise


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "files"
    made.mkdir()
    return made


@pytest.fixture
def world(children: Children, cluster: Cluster, crds: None, namespace: str, folder: Path) -> Iterator[World]:
    return World(children, cluster, namespace, folder)


def certificate_name(port: int) -> str:
    """The common name in the certificate that a port shows."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
    try:
        connection.connect()
        shown = connection.sock.getpeercert(binary_form=True)
    finally:
        connection.close()
    [attribute] = x509.load_der_x509_certificate(shown).subject
    return str(attribute.value)


def test_a_gateway_in_a_file_serves_routes_and_secrets_of_the_cluster_and_services_from_rest(
    world: World, cluster: Cluster, children: Children, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    port, secure = free_port(), free_port()
    world.in_file("edge", gateway(port, secure))
    world.in_cluster(route("shop", "/", "filed"), route("pay", "/pay", "rested"), secret(authority.server("first")))
    world.in_file("filed", own_service("filed", start_backend(children, "filed")))
    world.over_rest("services", own_service("rested", start_backend(children, "rested")))
    start_envoy(children, "gateway", "edge", "--namespace", world.namespace, xds=world.serving.xds)
    eventually(
        lambda: ask(port, "shop.example.com").body.get("service") == "filed", "the route to what a file declares"
    )
    eventually(lambda: ask(port, "x", "/pay").body.get("service") == "rested", "the route to what REST declares")
    eventually(lambda: certificate_name(secure) == "first", "the cluster's certificate")
    world.in_cluster(secret(authority.server("second")))
    eventually(lambda: certificate_name(secure) == "second", "the renewed certificate")

    def told() -> bool:
        item = cluster.get(f"/apis/{GATEWAY_API}/namespaces/{world.namespace}/httproutes/shop")
        (parent,) = item.get("status", {}).get("parents", [{}])
        found = condition({"status": parent}, "Accepted")
        return found is not None and found["status"] == "True"

    eventually(told, "the cluster's route to be told that it is accepted")


def test_of_two_clusters_the_first_by_name_declares_an_object_and_their_services_merge(
    children: Children, cluster: Cluster, crds: None, namespace: str, folder: Path
) -> None:
    clusters = [part for name in ("west", "east") for part in ("--kubernetes", f"{name}={cluster.kubeconfig}")]
    world = World(children, cluster, namespace, folder, clusters)
    world.in_cluster(route("shop", "/", "web"), *discovered_service())
    eventually(lambda: world.get("httproutes", "shop")["origin"]["source"] == "kubernetes:east", "the route")
    eventually(lambda: "shadowed" in world.get("httproutes", "shop")["status"], "the other one to be shadowed")
    assert "kubernetes:west: shadowed by kubernetes:east" in world.get("httproutes", "shop")["status"]["shadowed"][0]

    def sources() -> bool:
        services = world.serving.client.request("GET", "/api/v1/discovered/services").json()
        return '["kubernetes:east", "kubernetes:west"]' in json.dumps(services)

    eventually(sources, "the service of both")


def test_one_service_in_a_cluster_and_a_file_has_the_endpoints_of_both(world: World) -> None:
    world.in_cluster(*discovered_service())
    world.in_file("web", own_service("web", 9000))

    def addresses() -> set[str]:
        text = json.dumps(world.serving.client.request("GET", "/api/v1/discovered/endpoints").json())
        return {address for address in ("10.1.0.1", "127.0.0.1") if f'"{address}"' in text}

    eventually(lambda: addresses() == {"10.1.0.1", "127.0.0.1"}, "the endpoints of both")


def test_the_cluster_wins_over_rest_and_rest_over_files_and_the_losers_are_told(world: World, cluster: Cluster) -> None:
    def source() -> str:
        return str(world.get("httproutes", "shop")["origin"]["source"])

    world.in_file("shop", route("shop", "/file", "a"))
    eventually(lambda: source() == "files", "the file's route")
    world.over_rest("httproutes", route("shop", "/rest", "a"))
    eventually(lambda: source() == "store", "REST to win over the file")
    world.in_cluster(route("shop", "/cluster", "a"))
    eventually(lambda: source() == "kubernetes:default", "the cluster to win over both")
    shadowed = " ".join(world.get("httproutes", "shop")["status"]["shadowed"])
    assert "files: shadowed by kubernetes:default" in shadowed
    assert "store: shadowed by kubernetes:default" in shadowed
    with pytest.raises(RefusedError, match="kubectl") as refused:
        world.over_rest("httproutes", route("shop", "/rest2", "a"))
    assert refused.value.status == 409
    cluster.delete({**route("shop", "", ""), "metadata": {"name": "shop", "namespace": world.namespace}})
    eventually(lambda: source() == "store", "what REST wrote to count again")


def answering(port: int, path: str) -> set[str]:
    """The services that answer a path, asked often enough to meet them all."""
    return {str(ask(port, "x", path).body.get("service", "nobody")) for _ in range(20)}


def served(children: Children, world: World) -> int:
    """The port of an Envoy that serves the Gateway `edge`, declared in a file."""
    port = free_port()
    listeners = [{"name": "http", "port": port, "protocol": "HTTP"}]
    world.in_file("edge", {**gateway(0, 0), "spec": {"gatewayClassName": "fairlead", "listeners": listeners}})
    start_envoy(children, "gateway", "edge", "--namespace", world.namespace, xds=world.serving.xds)
    return port


def test_a_reference_without_a_group_leads_to_the_merged_service_and_one_to_our_own_only_to_what_that_says(
    world: World, children: Children
) -> None:
    port = served(children, world)
    service, endpoints = discovered_service()
    endpoints["ports"][0]["port"] = start_backend(children, "in-cluster", host="10.245.0.1")
    endpoints["endpoints"] = [{"addresses": ["10.245.0.1"]}]
    own = own_service("web", start_backend(children, "in-file"))
    own["spec"]["ports"][0]["name"] = "web"
    own["spec"]["endpoints"][0]["ports"] = {"web": own["spec"]["endpoints"][0]["ports"]["http"]}
    world.in_cluster(service, endpoints, route("merged", "/merged", "web"), own_route("own", "/own", "web"))
    eventually(lambda: answering(port, "/merged") == {"in-cluster"}, "the cluster's endpoint")
    world.in_file("web", own)
    eventually(lambda: answering(port, "/merged") == {"in-cluster", "in-file"}, "the endpoints of both")
    eventually(lambda: answering(port, "/own") == {"in-file"}, "what our own Service says, alone")


def test_of_two_rules_that_say_the_same_the_older_object_wins_and_one_of_a_file_that_tells_no_age_is_the_youngest(
    world: World, children: Children
) -> None:
    port = served(children, world)
    for name in ("filed", "clustered", "rested"):
        world.in_file(name, own_service(name, start_backend(children, name)))

    def own(name: str, **metadata: str) -> JSON:
        made = own_route(f"by-{name}", "/", name)
        return {**made, "metadata": {**made["metadata"], **metadata}}

    world.in_file("route", own("filed"))
    eventually(lambda: answering(port, "/") == {"filed"}, "the only one there is")
    world.in_cluster(own("clustered"))
    eventually(lambda: answering(port, "/") == {"clustered"}, "the cluster's, which tells its age")
    created = world.get("httproutes", "by-clustered")["metadata"]["creationTimestamp"]
    eventually(lambda: datetime.now(UTC) >= datetime.fromisoformat(created) + timedelta(seconds=1), "a second")
    world.over_rest("httproutes", own("rested"))
    eventually(lambda: "by-rested" in json.dumps(world.get("httproutes", "by-rested")), "the youngest with an age")
    assert answering(port, "/") == {"clustered"}
    world.in_file("route", own("filed", creationTimestamp="2020-01-01T00:00:00Z"))
    eventually(lambda: answering(port, "/") == {"filed"}, "the file's, which is the oldest by its own word")


async def test_while_the_cluster_is_away_files_and_rest_go_on_and_what_wins_over_them_stays(
    children: Children, cluster: Cluster, crds: None, namespace: str, kubeconfig: Path, folder: Path, tmp_path: Path
) -> None:
    async with line_to(kubeconfig, tmp_path) as (line, over):

        def scene() -> tuple[World, int]:
            world = World(children, cluster, namespace, folder, ["--kubernetes", str(over)])
            port = served(children, world)
            for name in ("filed", "clustered"):
                world.in_file(name, own_service(name, start_backend(children, name)))
            world.in_cluster(own_route("shop", "/shop", "clustered"))
            world.in_file("shop", own_route("shop", "/shop", "filed"))
            eventually(lambda: answering(port, "/shop") == {"clustered"}, "the cluster's route")
            return world, port

        def changed(world: World, port: int) -> None:
            eventually(lambda: "Unreachable" in world.serving.child.log.read_text(), "the cluster to be missed")
            world.in_file("pay", own_route("pay", "/pay", "filed"))
            eventually(lambda: answering(port, "/pay") == {"filed"}, "a new route in a file")
            world.over_rest("httproutes", own_route("rest", "/rest", "filed"))
            eventually(lambda: answering(port, "/rest") == {"filed"}, "a new route over REST")
            world.in_file("shop", own_route("shop", "/shop", "rested"))
            assert answering(port, "/shop") == {"clustered"}, "what the cluster last said still wins"
            with pytest.raises(RefusedError) as refused:
                world.over_rest("httproutes", own_route("shop", "/shop", "filed"))
            assert refused.value.status == 409

        world, port = await asyncio.to_thread(scene)
        await line.cut()
        await asyncio.to_thread(changed, world, port)
