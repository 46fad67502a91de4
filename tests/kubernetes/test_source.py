"""The source against a real API server, over a line that can be cut and with permissions that can be taken away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from discovery.copies import Copies
from discovery.kubernetes import informer_state, source
from discovery.stores.sqlite import SqliteStore
from tests.support.api_line import as_user, line_to
from tests.support.followed_cluster import (
    CORE_RULE,
    DEADLINE,
    OTHER_RULE,
    SLICES_RULE,
    Follower,
    account,
    following,
    may,
    said,
)
from tests.support.kubernetes import JSON, Cluster
from tests.support.kubernetes_api import until
from tests.support.secrets import secret


def service(name: str = "web") -> JSON:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        # kube-proxy leaves it alone
        "metadata": {"name": name, "labels": {"service.kubernetes.io/service-proxy-name": "none"}},
        "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]},
    }


def endpoint_slice(*addresses: str, name: str = "web") -> JSON:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
    }


def route(path: str = "/", kind: str = "PathPrefix") -> JSON:
    match = {"path": {"type": kind, "value": path}}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "web"},
        "spec": {
            "parentRefs": [{"name": "web"}],
            "rules": [{"matches": [match], "backendRefs": [{"name": "web", "port": 80}]}],
        },
    }


def gateway(secret: str, class_name: str) -> JSON:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "web"},
        "spec": {
            "gatewayClassName": class_name,
            "listeners": [
                {"name": "https", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": secret}]}}
            ],
        },
    }


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "store.db")
    yield opened
    await opened.close()


async def test_services_and_endpoints_come_change_and_go(cluster: Cluster, namespace: str, kubeconfig: Path) -> None:
    await said(cluster.apply, service(), endpoint_slice("10.1.0.1"), namespace=namespace)
    async with following(kubeconfig) as seen:
        assert seen.addresses(namespace) == {"10.1.0.1"}, "the first batch is everything"
        assert ("service", "default", "kubernetes") in seen.rows
        await said(cluster.apply, endpoint_slice("10.1.0.2", "10.1.0.3"), namespace=namespace)
        await seen.until(lambda: seen.addresses(namespace) == {"10.1.0.2", "10.1.0.3"})
        await said(cluster.apply, service("other"), namespace=namespace)
        await seen.until(lambda: ("service", namespace, "other") in seen.rows)
        await said(cluster.delete, {**service(), "metadata": {"name": "web", "namespace": namespace}})
        await seen.until(lambda: ("service", namespace, "web") not in seen.rows)
        assert seen.codes() == set()


async def test_config_objects_come_and_a_bad_change_keeps_the_last_good(
    cluster: Cluster, crds: None, namespace: str, kubeconfig: Path
) -> None:
    key = ("HTTPRoute", namespace, "web")

    def problems(seen: Follower) -> list[str]:
        return [problem.path for problem in seen.source.problems if problem.file == f"HTTPRoute {namespace}/web"]

    async with following(kubeconfig) as seen:
        assert ("Namespace", "", namespace) in seen.rows
        await said(cluster.apply, route("/a"), namespace=namespace)
        await seen.until(lambda: key in seen.rows)
        good = seen.rows[key]
        assert good.object.metadata.uid
        await said(cluster.apply, route("(", "RegularExpression"), namespace=namespace)
        await seen.until(lambda: problems(seen))
        assert seen.rows[key] == good
        await said(cluster.apply, route("/b"), namespace=namespace)
        await seen.until(lambda: seen.rows[key] != good and not problems(seen))
        await said(cluster.delete, {**route(), "metadata": {"name": "web", "namespace": namespace}})
        await seen.until(lambda: key not in seen.rows)


async def test_a_secret_is_read_while_a_gateway_refers_to_it_and_no_other_is(
    cluster: Cluster, crds: None, namespace: str, kubeconfig: Path
) -> None:
    ours = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": namespace},
        "spec": {"controllerName": "fairlead.dev/gateway-controller"},
    }
    for name in ("used", "other"):
        await said(cluster.apply, "apiVersion: v1\n" + secret(name, namespace))
    try:
        await said(cluster.apply, ours)
        await said(cluster.apply, gateway("used", namespace), namespace=namespace)
        async with following(kubeconfig) as seen:
            secrets = lambda: {key[2] for key in seen.rows if key[:2] == ("Secret", namespace)}  # noqa: E731
            assert secrets() == {"used"}, "the first batch has it"
            assert {key[1] for key in seen.rows if key[0] == "Secret"} <= {namespace} | _namespaces_of_gateways(seen)
            await said(cluster.apply, gateway("late", namespace), namespace=namespace)
            await seen.until(lambda: secrets() == set())
            await said(cluster.apply, "apiVersion: v1\n" + secret("late", namespace))
            await seen.until(lambda: secrets() == {"late"})
            await said(cluster.delete, {**gateway("", ""), "metadata": {"name": "web", "namespace": namespace}})
            await seen.until(lambda: secrets() == set())
    finally:
        await said(cluster.delete, ours)


def _namespaces_of_gateways(seen: Follower) -> set[str]:
    return {key[1] for key in seen.rows if key[0] == "Gateway"}


async def test_while_the_api_server_is_away_all_stays_and_then_what_changed_meanwhile_comes(
    cluster: Cluster, namespace: str, kubeconfig: Path, tmp_path: Path
) -> None:
    await said(cluster.apply, service(), endpoint_slice("10.1.0.1"), namespace=namespace)
    async with line_to(kubeconfig, tmp_path) as (line, over), following(over) as seen:
        before = seen.of(namespace)
        await line.cut()
        await seen.until(lambda: seen.codes() == {"Unreachable"})
        await said(cluster.apply, endpoint_slice("10.1.0.2"), namespace=namespace)
        assert seen.of(namespace) == before
        assert [problem.code for problem in seen.troubles()] == ["Unreachable"]
        await line.restore()
        await seen.until(lambda: seen.addresses(namespace) == {"10.1.0.2"} and not seen.codes())


async def test_a_watch_that_breaks_again_and_again_loses_nothing(
    cluster: Cluster, namespace: str, kubeconfig: Path, tmp_path: Path
) -> None:
    await said(cluster.apply, service(), namespace=namespace)
    async with line_to(kubeconfig, tmp_path) as (line, over), following(over) as seen:
        for number in range(5):
            await line.drop()
            await said(cluster.apply, endpoint_slice(f"10.1.0.{number}"), namespace=namespace)
            await seen.until(lambda number=number: seen.addresses(namespace) == {f"10.1.0.{number}"})


async def test_a_watch_that_the_server_ends_goes_on(
    cluster: Cluster, namespace: str, kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(informer_state, "WATCH_SECONDS", (1, 1))
    await said(cluster.apply, service(), namespace=namespace)
    async with following(kubeconfig) as seen:
        for number in range(4):
            await asyncio.sleep(0.7)  # the server's second passes
            await said(cluster.apply, endpoint_slice(f"10.1.0.{number}"), namespace=namespace)
            await seen.until(lambda number=number: seen.addresses(namespace) == {f"10.1.0.{number}"})
        assert not seen.codes()


async def test_a_version_that_the_server_has_forgotten_lists_all_kinds_anew(
    cluster: Cluster, crds: None, namespace: str, kubeconfig: Path, tmp_path: Path
) -> None:
    await said(cluster.apply, service(), service("old"), endpoint_slice("10.1.0.1"), namespace=namespace)
    async with line_to(kubeconfig, tmp_path) as (line, over), following(over) as seen:
        await line.cut()
        await seen.until(lambda: seen.codes() == {"Unreachable"})
        assert not [watch.informer.resource.what for watch in seen.source._watches if watch.informer.missing]
        for watch in seen.source._watches:
            watch.informer._state._resource_version = "1"  # as after a long time away
        await said(cluster.apply, endpoint_slice("10.1.0.2"), namespace=namespace)
        await said(cluster.delete, {**service(), "metadata": {"name": "old", "namespace": namespace}})
        await line.restore()
        await seen.until(lambda: seen.addresses(namespace) == {"10.1.0.2"} and not seen.codes())
        await seen.until(lambda: ("service", namespace, "old") not in seen.rows)
        states = [watch.informer._state for watch in seen.source._watches]
        await until(lambda: all(int(state._resource_version or 1) > 1 for state in states), "all to be listed anew")


async def test_a_restart_while_the_api_server_is_away_serves_the_last_rows_as_stale_and_then_fresh_ones(
    cluster: Cluster, crds: None, namespace: str, kubeconfig: Path, tmp_path: Path, store: SqliteStore
) -> None:
    await said(cluster.apply, service(), endpoint_slice("10.1.0.1"), route("/a"), namespace=namespace)
    keys = [("service", namespace, "web"), ("HTTPRoute", namespace, "web"), ("endpoints", namespace, "web", "web-1")]
    async with line_to(kubeconfig, tmp_path) as (line, over):
        copies = Copies(store, "kubernetes:east")
        async with following(over, copies=copies) as seen:
            first = {key: seen.rows[key] for key in keys}
        await copies.flush(most=1_000_000)
        await line.cut()
        async with following(over, copies=Copies(store, "kubernetes:east")) as seen:
            assert all(seen.rows[key].stale for key in keys)
            assert seen.rows[keys[1]].object == first[keys[1]].object
            assert seen.addresses(namespace) == {"10.1.0.1"}
            assert seen.codes() == {"Unreachable"}
            await said(cluster.apply, endpoint_slice("10.1.0.2"), namespace=namespace)
            await said(cluster.delete, {**route(), "metadata": {"name": "web", "namespace": namespace}})
            await line.restore()
            await seen.until(lambda: seen.addresses(namespace) == {"10.1.0.2"} and keys[1] not in seen.rows)
            await seen.until(lambda: not any(row.stale for key, row in seen.rows.items() if key[0] != "refused"))


async def test_without_a_copy_nothing_is_served_until_the_api_server_has_been_asked(
    cluster: Cluster,
    namespace: str,
    kubeconfig: Path,
    tmp_path: Path,
    store: SqliteStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(source, "GIVE_UP_SECONDS", 0.2)
    async with line_to(kubeconfig, tmp_path) as (line, over):
        await line.cut()
        async with following(over, synced=False, copies=Copies(store, "kubernetes:east")) as seen:
            async with asyncio.timeout(DEADLINE):
                while not seen.codes():  # noqa: ASYNC110 - there is no batch to wait for
                    await asyncio.sleep(0.05)
            with pytest.raises(TimeoutError):
                await seen.until(lambda: seen.batches, seconds=1.0)
            await line.restore()
            await seen.until(lambda: seen.batches)
            assert ("service", "default", "kubernetes") in seen.rows
        await line.cut()
        async with following(over, optional=True) as seen:
            assert seen.rows == {}
            await until(lambda: seen.codes() == {"Unreachable"}, "the trouble to be told")
            await line.restore()
            await seen.until(lambda: ("service", "default", "kubernetes") in seen.rows)


async def test_only_the_namespaces_asked_for_are_watched(
    cluster: Cluster, new_namespace: Callable[..., str], kubeconfig: Path
) -> None:
    one, two, other = new_namespace(), new_namespace(), new_namespace()
    for at in (one, two, other):
        await said(cluster.apply, service(), endpoint_slice("10.1.0.1"), namespace=at)
    async with following(kubeconfig, namespaces=[one, two]) as seen:
        assert {key[1] for key in seen.rows if key[0] in ("service", "endpoints")} == {one, two}
        await said(cluster.apply, endpoint_slice("10.1.0.2"), namespace=two)
        await seen.until(lambda: seen.addresses(two) == {"10.1.0.2"})
        assert seen.addresses(one) == {"10.1.0.1"}


async def test_a_permission_taken_away_for_one_kind_keeps_its_objects_and_hurts_no_other(
    cluster: Cluster, crds: None, namespace: str, kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(informer_state, "FORBIDDEN_PAUSE", 1.0)
    await said(cluster.apply, service(), endpoint_slice("10.1.0.1"), route("/a"), namespace=namespace)
    key = ("HTTPRoute", namespace, "web")
    async with (
        account(cluster, namespace, kubeconfig, tmp_path) as limited,
        line_to(limited, tmp_path) as (line, over),
        following(over) as seen,
    ):
        assert not seen.codes()
        before = seen.rows[key]
        await may(cluster, namespace, CORE_RULE, OTHER_RULE)
        await seen.until(lambda: seen.addresses(namespace) == {"10.1.0.1"})
        await line.drop()
        await seen.until(lambda: seen.codes() == {"Forbidden"})
        (problem,) = seen.troubles()
        assert "endpointslices" in problem.fix
        assert seen.addresses(namespace) == {"10.1.0.1"}
        await said(cluster.apply, route("/b"), namespace=namespace)
        await seen.until(lambda: seen.rows[key] != before)
        await said(cluster.apply, endpoint_slice("10.1.0.2"), namespace=namespace)
        await may(cluster, namespace, CORE_RULE, SLICES_RULE, OTHER_RULE)
        await seen.until(lambda: seen.addresses(namespace) == {"10.1.0.2"} and not seen.codes())


async def test_without_the_right_to_see_pods_and_nodes_endpoints_are_there_all_the_same(
    cluster: Cluster, namespace: str, kubeconfig: Path, tmp_path: Path
) -> None:
    await said(cluster.apply, service(), endpoint_slice("10.1.0.1"), namespace=namespace)
    async with account(cluster, namespace, kubeconfig, tmp_path) as limited:
        rule = {**CORE_RULE, "resources": ["services", "namespaces"]}
        await may(cluster, namespace, rule, SLICES_RULE, OTHER_RULE)
        async with following(limited) as seen:
            assert seen.addresses(namespace) == {"10.1.0.1"}
            assert seen.codes() == {"Forbidden"}
            assert all("pods" in one.fix or "nodes" in one.fix for one in seen.troubles())


async def test_a_token_that_is_no_good_any_more_is_a_problem_and_a_new_one_in_the_kubeconfig_mends_it(
    cluster: Cluster, namespace: str, kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(informer_state, "FORBIDDEN_PAUSE", 1.0)
    async with (
        account(cluster, namespace, kubeconfig, tmp_path) as limited,
        line_to(limited, tmp_path) as (line, over),
        following(over) as seen,
    ):
        good = over.read_text()
        as_user(over, "no.good.token", over)
        await line.drop()
        await seen.until(lambda: "Forbidden" in seen.codes())
        over.write_text(good)
        await seen.until(lambda: not seen.codes())
