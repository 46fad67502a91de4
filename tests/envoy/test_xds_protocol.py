"""The rules of research/control-planes.md §6 that a real Envoy can show, over delta and state of the world."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import grpc.aio
import pytest

from fairlead.envoy_binary import find_envoy
from fairlead.processes import Children, free_port
from tests.support.programs import RunningEnvoy, ask, start_backend, start_envoy
from tests.support.xds_client import TinyMesh, assignment, cluster, resource, serving, until
from xds.protocol.ordering import Patience
from xds.resources import Resource
from xds.schema import from_dict
from xds.schema.type_urls import PREFIX, TYPE_CLUSTER, TYPE_ENDPOINT, TYPE_LISTENER, TYPE_ROUTE, TYPE_SECRET
from xds.schema.types import (
    NAMES,
    ClientStatusRequest,
    ClientStatusResponse,
    Cluster,
    ConfigStatus,
    Listener,
    RouteConfiguration,
)
from xds.server import csds

pytestmark = pytest.mark.envoy

T = TypeVar("T")

BINARY = Path(find_envoy())
PATIENCE = Patience(grace=0.3, leave=5)
ADS = {"ads": {}, "resource_api_version": "V3"}


@pytest.fixture(params=["delta", "sotw"])
def flags(request: pytest.FixtureRequest) -> list[str]:
    """The two transports."""
    return [] if request.param == "delta" else ["--sotw"]


async def backend(children: Children, name: str) -> int:
    """A server that answers every request with its name; its port."""
    return await asyncio.to_thread(start_backend, children, name)


def listener(port: int, route: str = "routes") -> Resource:
    router = {"@type": PREFIX + NAMES["Router"]}
    manager = {
        "@type": PREFIX + NAMES["HttpConnectionManager"],
        "stat_prefix": "in",
        "rds": {"route_config_name": route, "config_source": ADS},
        "http_filters": [{"name": "router", "typed_config": router}],
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    content = {"name": f"in-{port}", "address": address, "filter_chains": [chain]}
    return resource(TYPE_LISTENER, from_dict(Listener, content))


def routes(*clusters: str, domains: Iterable[str] = ("*",), name: str = "routes") -> Resource:
    weights = [{"name": cluster, "weight": 1} for cluster in clusters]
    route = {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": weights}}}
    content = {"name": name, "virtual_hosts": [{"name": "all", "domains": list(domains), "routes": [route]}]}
    return resource(TYPE_ROUTE, from_dict(RouteConfiguration, content), needs=clusters)


async def start(children: Children, port: int, flags: list[str]) -> RunningEnvoy:
    return await asyncio.to_thread(start_envoy, children, "gateway", "edge", *flags, xds=port)


async def text(port: int) -> str:
    try:
        answer = await asyncio.to_thread(ask, port, "any.example.com")
    except ConnectionRefusedError:
        return "closed"
    return f"{answer.status} {answer.body.get('service', '') if isinstance(answer.body, dict) else ''}".strip()


async def becomes(port: int, expected: str) -> None:
    await eventually(lambda: text(port), lambda answer: answer == expected)


async def eventually(ask: Callable[[], Awaitable[T]], is_right: Callable[[T], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_right(await ask()):  # noqa: ASYNC110 - Envoy tells only who asks
            await asyncio.sleep(0.02)


async def stat(envoy: RunningEnvoy, name: str) -> int:
    return await asyncio.to_thread(envoy.stat, name)


async def test_s17_t10_a_changed_cluster_is_warm_again_at_once(children: Children, flags: list[str]) -> None:
    mesh, port = TinyMesh(patience=PATIENCE), free_port()
    one = await backend(children, "one")
    async with serving(mesh) as server:
        mesh.put(cluster("c"), assignment("c", one), listener(port), routes("c"))
        envoy = await start(children, server.port, flags)
        await becomes(port, "200 one")
        for timeout in range(6, 12):
            mesh.put(cluster("c", timeout=timeout))
            await until(lambda: mesh.hub.proxies()[0].types[0].status == "SYNCED")
            assert (await text(port)).startswith("200")
        await eventually(lambda: stat(envoy, "cluster_manager.warming_clusters"), lambda value: value == 0)
        # Endpoints that came from a timeout and Envoy's own cache would count here (T10).
        assert await stat(envoy, "cluster.c.init_fetch_timeout") == 0
        assert await stat(envoy, "cluster.c.assignment_use_cached") == 0


async def test_s17_a_cluster_without_endpoints_does_not_keep_envoy_warming(
    children: Children, flags: list[str]
) -> None:
    mesh, port = TinyMesh(patience=PATIENCE), free_port()
    async with serving(mesh) as server:
        mesh.put(cluster("empty"), listener(port), routes("empty"))
        envoy = await start(children, server.port, flags)
        await becomes(port, "503")
        assert await stat(envoy, "cluster_manager.warming_clusters") == 0
        assert await stat(envoy, "cluster.empty.init_fetch_timeout") == 0


async def test_s18_s19_clusters_are_replaced_under_traffic_without_a_failed_request(
    children: Children, flags: list[str]
) -> None:
    mesh, port = TinyMesh(patience=PATIENCE), free_port()
    answers: list[str] = []
    ok = await backend(children, "ok")
    async with serving(mesh) as server:
        mesh.put(cluster("c0"), assignment("c0", ok), listener(port), routes("c0"))
        envoy = await start(children, server.port, flags)
        await becomes(port, "200 ok")
        done = asyncio.Event()

        async def visit() -> None:
            while not done.is_set():
                answers.append(await text(port))

        visitor = asyncio.get_running_loop().create_task(visit())
        for i in range(1, 6):
            gone = [(TYPE_CLUSTER, f"c{i - 1}"), (TYPE_ENDPOINT, f"c{i - 1}")]
            mesh.put(cluster(f"c{i}"), assignment(f"c{i}", ok), routes(f"c{i}"), remove=gone)
            await eventually(lambda: stat(envoy, "cluster_manager.cluster_removed"), lambda value, i=i: value >= i)
        done.set()
        await visitor
    assert len(answers) > 20
    assert set(answers) == {"200 ok"}


async def test_s6_what_envoy_refuses_is_not_sent_again_and_its_mending_is(children: Children, flags: list[str]) -> None:
    mesh, port = TinyMesh(patience=PATIENCE), free_port()
    reports: list[str] = []
    mesh.hub.on_nack = lambda report: reports.append(report.detail)
    ok = await backend(children, "ok")
    async with serving(mesh) as server:
        mesh.put(cluster("c"), assignment("c", ok), listener(port), routes("c"))
        envoy = await start(children, server.port, flags)
        await becomes(port, "200 ok")
        mesh.put(routes("c", domains=["same.example.com", "same.example.com"]))
        await until(lambda: reports)
        assert "same.example.com" in reports[0]
        for timeout in range(6, 9):
            mesh.put(cluster("c", timeout=timeout))
            await until(lambda: mesh.hub.proxies()[0].types[0].status == "SYNCED")
        assert await stat(envoy, "http.in.rds.routes.update_rejected") == 1
        assert await text(port) == "200 ok"
        mesh.put(routes("c", domains=["any.example.com"]))
        await until(lambda: all(state.status == "SYNCED" for state in mesh.hub.proxies()[0].types))
        assert await stat(envoy, "http.in.rds.routes.update_rejected") == 1


async def test_d8_envoy_comes_back_to_another_server_and_is_sent_nothing(children: Children) -> None:
    port, xds = free_port(), free_port()

    def replica() -> TinyMesh:
        made = TinyMesh(patience=PATIENCE)
        made.put(cluster("c"), assignment("c", ok), listener(port), routes("c"))
        return made

    ok = await backend(children, "ok")
    first, second = replica(), replica()
    async with serving(first, port=xds):
        await start(children, xds, [])
        await becomes(port, "200 ok")
        await until(lambda: all(state.status == "SYNCED" for state in first.hub.proxies()[0].types))
    async with serving(second, port=xds):
        await until(lambda: second.hub.proxies() and len(second.hub.proxies()[0].types) == 4)
        second.put(cluster("c", timeout=9))
        await until(lambda: second.hub.proxies()[0].types[0].acks)
        resources = second.hub.telemetry.resources
    assert resources[TYPE_CLUSTER] == 1
    assert (resources[TYPE_LISTENER], resources[TYPE_ROUTE], resources[TYPE_SECRET]) == (0, 0, 0)


async def test_t9_an_envoy_that_may_seldom_ask_or_answer_gets_everything_and_fails_no_request(
    children: Children, flags: list[str]
) -> None:
    mesh, port = TinyMesh(patience=PATIENCE), free_port()
    ok = await backend(children, "ok")
    limit = "dynamic_resources: {ads_config: {rate_limit_settings: {max_tokens: 1, fill_rate: 8}}}"
    arguments = ["--log-level", "warning", "--concurrency", "1", "--config-yaml", limit]
    async with serving(mesh) as server:
        mesh.put(cluster("c0"), assignment("c0", ok), listener(port), routes("c0"))
        envoy = await asyncio.to_thread(
            start_envoy, children, "gateway", "edge", *flags, xds=server.port, binary=BINARY, arguments=arguments
        )
        await becomes(port, "200 ok")
        for number in range(1, 4):
            gone = [(TYPE_CLUSTER, f"c{number - 1}"), (TYPE_ENDPOINT, f"c{number - 1}")]
            mesh.put(cluster(f"c{number}"), assignment(f"c{number}", ok), routes(f"c{number}"), remove=gone)
            while await stat(envoy, "cluster_manager.cluster_removed") < number:
                assert await text(port) == "200 ok"
        assert await stat(envoy, "control_plane.rate_limit_enforced") > 0
        for name in ("cluster_manager.cds", "listener_manager.lds", "http.in.rds.routes"):
            assert await stat(envoy, f"{name}.init_fetch_timeout") == 0


async def test_a_proxy_is_told_of_the_next_change_after_the_first(children: Children, flags: list[str]) -> None:
    mesh, port = TinyMesh(patience=PATIENCE), free_port()
    one, two = await backend(children, "one"), await backend(children, "two")
    async with serving(mesh) as server:
        mesh.put(cluster("c"), assignment("c", one), listener(port), routes("c"))
        await start(children, server.port, flags)
        for _ in range(3):
            await becomes(port, "200 one")
            mesh.put(assignment("c", two))
            await becomes(port, "200 two")
            mesh.put(assignment("c", one))


async def held(envoy: RunningEnvoy) -> dict[tuple[str, str], tuple[str, Any]]:
    """Clusters, listeners and routes as Envoy has them: (type, name) → version and message."""
    found: dict[tuple[str, str], tuple[str, Any]] = {}
    for section in (await asyncio.to_thread(envoy.config))["configs"]:
        for row in section.get("dynamic_active_clusters", ()):
            found[TYPE_CLUSTER, row["cluster"]["name"]] = row["version_info"], plain(Cluster, row["cluster"])
        for row in section.get("dynamic_listeners", ()):
            if state := row.get("active_state"):
                found[TYPE_LISTENER, row["name"]] = state["version_info"], plain(Listener, state["listener"])
        for row in section.get("dynamic_route_configs", ()):
            made = plain(RouteConfiguration, row["route_config"])
            found[TYPE_ROUTE, made.name] = row["version_info"], made
    return found


def plain(kind: Any, content: dict[str, Any]) -> Any:
    """A message from the dump of an `Any`."""
    return from_dict(kind, {key: value for key, value in content.items() if key != "@type"})


async def names_of(envoy: RunningEnvoy, type_url: str) -> set[str]:
    return {name for kind, name in await held(envoy) if kind == type_url}


async def test_s8_d1_what_the_server_no_longer_has_leaves_envoy_and_the_rest_stays(
    children: Children, flags: list[str]
) -> None:
    mesh, port, gone = TinyMesh(patience=PATIENCE), free_port(), free_port()
    one, two = await backend(children, "one"), await backend(children, "two")
    async with serving(mesh) as server:
        mesh.put(cluster("c"), assignment("c", one), listener(port), routes("c"))
        mesh.put(cluster("d"), assignment("d", two), listener(gone, "others"), routes("d", name="others"))
        envoy = await start(children, server.port, flags)
        await becomes(port, "200 one")
        await becomes(gone, "200 two")
        went = [(TYPE_LISTENER, f"in-{gone}"), (TYPE_ROUTE, "others"), (TYPE_CLUSTER, "d"), (TYPE_ENDPOINT, "d")]
        mesh.put(remove=went)
        await eventually(lambda: names_of(envoy, TYPE_LISTENER), lambda names: names == {f"in-{port}"})
        await eventually(lambda: names_of(envoy, TYPE_CLUSTER), lambda names: names == {"c"})
        assert await text(port) == "200 one"
        assert await stat(envoy, "listener_manager.listener_modified") == 0
        assert await stat(envoy, "cluster_manager.cluster_modified") == 0


async def test_s13_routes_that_come_after_their_listener_are_sent_when_they_come(
    children: Children, flags: list[str]
) -> None:
    mesh, port = TinyMesh(patience=PATIENCE), free_port()
    one = await backend(children, "one")
    async with serving(mesh) as server:
        mesh.put(cluster("c"), assignment("c", one), listener(port))
        await asyncio.to_thread(start_envoy, children, "gateway", "edge", *flags, xds=server.port, ready=False)
        await until(lambda: mesh.hub.proxies() and any(s.type_url == TYPE_ROUTE for s in mesh.hub.proxies()[0].types))
        assert await text(port) == "closed"
        mesh.put(routes("c"))
        await becomes(port, "200 one")


async def test_d7_envoy_is_told_at_once_that_the_routes_it_asks_for_do_not_exist(children: Children) -> None:
    mesh, port = TinyMesh(patience=PATIENCE), free_port()
    logging = ["--log-level", "warning", "--component-log-level", "config:debug", "--concurrency", "1"]
    async with serving(mesh) as server:
        mesh.put(listener(port))
        envoy = await asyncio.to_thread(
            start_envoy, children, "gateway", "edge", xds=server.port, ready=False, arguments=logging
        )
        said = f"{TYPE_ROUTE} accepted with 0 resources added, 1 removed"
        await until(lambda: said in envoy.child.log.read_text())


async def test_d13_the_endpoints_of_a_cluster_leave_envoy_no_sooner_than_the_cluster(children: Children) -> None:
    mesh, port = TinyMesh(patience=Patience(grace=1, leave=5)), free_port()
    one = await backend(children, "one")
    async with serving(mesh) as server:
        mesh.put(cluster("c"), cluster("d"), assignment("c", one), assignment("d", one), listener(port), routes("d"))
        envoy = await start(children, server.port, [])
        await becomes(port, "200 one")
        mesh.put(routes("c"), remove=[(TYPE_CLUSTER, "d"), (TYPE_ENDPOINT, "d")])
        seen = []
        while "d" in await names_of(envoy, TYPE_CLUSTER):
            # Endpoints that are removed under a cluster count as an empty update of it.
            seen.append(await stat(envoy, "cluster.d.update_empty"))
            assert await text(port) == "200 one"
        assert seen
        assert set(seen) == {0}


async def client_status(port: int) -> dict[tuple[str, str], Any]:
    """What the server says that the proxy holds, by type and name."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.unary_unary(f"/{csds.SERVICE}/FetchClientStatus")
        [config] = ClientStatusResponse.FromString(await ask(ClientStatusRequest().SerializeToString())).config
    return {(one.type_url, one.name): one for one in config.generic_xds_configs}


async def test_t7_client_status_agrees_with_what_envoy_holds(children: Children, flags: list[str]) -> None:
    mesh, port = TinyMesh(patience=PATIENCE), free_port()
    one = await backend(children, "one")
    kinds = {TYPE_CLUSTER: Cluster, TYPE_LISTENER: Listener, TYPE_ROUTE: RouteConfiguration}
    async with serving(mesh) as server:
        mesh.put(cluster("c"), cluster("d"), assignment("c", one), assignment("d"), listener(port), routes("c"))
        envoy = await start(children, server.port, flags)
        await becomes(port, "200 one")
        await until(lambda: all(state.status == "SYNCED" for state in mesh.hub.proxies()[0].types))
        told = {key: row for key, row in (await client_status(server.port)).items() if key[0] in kinds}
        envoys = await held(envoy)
        assert told.keys() == envoys.keys()
        assert {ConfigStatus.Name(row.config_status) for row in told.values()} == {"SYNCED"}
        for (kind, name), row in told.items():
            version, message = envoys[kind, name]
            assert kinds[kind].FromString(row.xds_config.value) == message
            if not flags:  # in delta a resource has a version of its own
                assert row.version_info == version
        mesh.put(routes("c", domains=["same.example.com", "same.example.com"]))
        await until(lambda: any(state.status == "ERROR" for state in mesh.hub.proxies()[0].types))
        refused = (await client_status(server.port))[TYPE_ROUTE, "routes"]
        assert ConfigStatus.Name(refused.config_status) == "ERROR"
        assert "same.example.com" in refused.error_state.details
        assert (await held(envoy))[TYPE_ROUTE, "routes"] == envoys[TYPE_ROUTE, "routes"]
        assert (await text(port)) == "200 one"
