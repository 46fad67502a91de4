"""Faults of a single agent while requests run through a real Envoy: none fails, and what changed meanwhile arrives."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from discovery.consul.http import Consul as HttpClient
from discovery.consul.http import Target
from discovery.consul.source import ConsulSource, Plan
from fairlead.demo.traffic import Background
from fairlead.processes import Children
from mesh.model import DiscoveredServiceKey
from tests.support.api_line import Line
from tests.support.consul import ConsulAgent, start_agent, version_of
from tests.support.consul_cluster import Member
from tests.support.consul_mesh import ConsulMesh, everything_arrives_within_limits, route
from tests.support.programs import FAIRLEAD, start_backend

pytestmark = [pytest.mark.envoy, pytest.mark.timeout(600)]


def test_agent_that_is_killed_and_comes_back_costs_no_request(children: Children, consul: Path) -> None:
    member = Member(children, consul, "one").start().wait_leader()
    first = member.register("web", start_backend(children, "web"))
    mesh = ConsulMesh(children, "--consul", member.url, objects=[route("web")])
    mesh.wait_ok("web")
    with Background(mesh.port, "web") as traffic:
        member.kill()
        mesh.wait(lambda: mesh.is_stale("web"), "it to be stale")
        mesh.wait(lambda: "Unreachable" in mesh.problems(), "it to be told")
        mesh.wait(lambda: mesh.metric('fairlead_consul_services_stale{source="consul"}') == 2, "both to be stale")
        listed = subprocess.run(
            [*FAIRLEAD, "services", "--server", mesh.serving.client.server],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        assert [line.split()[1] for line in listed.splitlines() if "consul (stale)" in line] == ["consul", "web"]
        member.start().wait_leader()
        mesh.wait(lambda: mesh.is_fresh("web"), "it to be fresh again")
        mesh.wait(lambda: not mesh.problems(), "nothing to be wrong any more")
        second = member.register("web", start_backend(children, "web", number="2"))
        mesh.wait(lambda: traffic.answered("web-v1-2"), "what changes afterwards")
        member.deregister(second)
        mesh.wait(lambda: traffic.silent_for("web-v1-2") > 0.5, "a deregistration")
    member.deregister(first)
    mesh.wait_gone("web")
    assert traffic.requests > 100
    assert not traffic.failures


def test_fairlead_that_starts_while_the_agent_is_away_serves_what_was_known(children: Children, consul: Path) -> None:
    member = Member(children, consul, "one").start().wait_leader()
    member.register("web", start_backend(children, "web"))
    mesh = ConsulMesh(children, "--consul", member.url, objects=[route("web")])
    mesh.wait_ok("web")
    member.kill()
    mesh.serving.child.stop()
    children.started.remove(mesh.serving.child)
    mesh.serving = mesh.serve(xds=mesh.serving.xds)
    mesh.wait(lambda: mesh.is_stale("web"), "what was known, as stale")
    mesh.wait_ok("web")
    member.start().wait_leader()
    mesh.wait(lambda: mesh.is_fresh("web"), "it to be fresh")
    mesh.wait_ok("web")


@pytest.mark.faults
def test_catalog_that_is_made_anew_removes_nothing_until_services_are_back(children: Children, consul: Path) -> None:
    member = Member(children, consul, "one").start().wait_leader()
    for number in range(40):  # so that the new index is surely lower
        member.register("other", 9000 + number)
    port = start_backend(children, "web")
    member.register("web", port)
    mesh = ConsulMesh(children, "--consul", member.url, objects=[route("web")])
    mesh.wait_ok("web")
    with Background(mesh.port, "web") as traffic:
        member.kill()
        shutil.rmtree(member.folder)
        member.start().wait_leader()
        mesh.wait(
            lambda: mesh.is_stale("web") and "Unreachable" not in mesh.problems(), "the empty catalog to be doubted"
        )
        member.register("web", port)
        mesh.wait(lambda: mesh.is_fresh("web"), "it to be fresh")
        mesh.wait(lambda: "other" not in mesh.services(), "what stays missing to be gone")
    assert traffic.requests > 100
    assert not traffic.failures


def test_catalog_that_is_made_anew_gives_no_single_instance_the_requests_of_all(
    children: Children, consul: Path
) -> None:
    member = Member(children, consul, "one").start().wait_leader()
    for number in range(40):  # so that the new index is surely lower
        member.register("other", 9000 + number)
    ports = [start_backend(children, "web", number=number) for number in ("1", "2", "3")]
    for port in ports:
        member.register("web", port)
    mesh = ConsulMesh(children, "--consul", member.url, objects=[route("web")])
    mesh.wait(lambda: len(mesh.count("web", 30)) == 3, "all three")
    member.kill()
    shutil.rmtree(member.folder)
    member.start().wait_leader()
    mesh.wait(lambda: mesh.is_stale("web") and "Unreachable" not in mesh.problems(), "the empty catalog to be doubted")
    member.register("web", ports[0])
    member.register("new", 9100)
    mesh.wait(lambda: "new" in mesh.services(), "what was registered after it to be there")
    assert mesh.is_stale("web")
    assert len(mesh.count("web", 30)) == 3
    for port in ports[1:]:
        member.register("web", port)
    mesh.wait(lambda: mesh.is_fresh("web"), "all to be back")


ACL = 'acl { enabled = true default_policy = "deny" tokens { master = "root" } }'


def policy(agent: ConsulAgent, rules: str, own: str = "") -> str:
    path = f"/v1/acl/policy/{own}" if own else "/v1/acl/policy"
    return str(agent.put(path, {"Name": "fairlead", "Rules": rules})["ID"])


def test_token_that_is_revoked_or_loses_its_rights_removes_nothing(children: Children, consul: Path) -> None:
    member = Member(children, consul, "one", "-hcl", ACL)
    member.token = "root"
    member.start().wait_leader()
    rules = 'service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }'
    which = policy(member, rules)
    made = member.put("/v1/acl/token", {"Policies": [{"ID": which}]})
    file = children.folder / "token"
    file.write_text(made["SecretID"] + "\n")
    member.register("web", start_backend(children, "web"))
    mesh = ConsulMesh(children, "--consul", member.url, "--consul-token-file", str(file), objects=[route("web")])
    mesh.wait_ok("web")
    with Background(mesh.port, "web") as traffic:
        policy(member, 'service_prefix "we" { policy = "deny" }', which)
        mesh.wait(lambda: "RightsLost" in mesh.problems(), "the loss to be said")
        mesh.wait(lambda: mesh.is_stale("web"), "it to be stale")
        policy(member, rules, which)
        mesh.wait(lambda: mesh.is_fresh("web") and not mesh.problems(), "the rights to be back")

        member.client.request("DELETE", f"/v1/acl/token/{made['AccessorID']}")
        mesh.wait(lambda: "Forbidden" in mesh.problems() and mesh.is_stale("web"), "the refusal")
        assert made["SecretID"] not in str(mesh.problems())
        file.write_text(member.put("/v1/acl/token", {"Policies": [{"ID": which}]})["SecretID"])
        mesh.wait(lambda: mesh.is_fresh("web") and not mesh.problems(), "the new token to be used")
    assert not traffic.failures


def test_token_that_may_not_see_nodes_removes_nothing_and_neither_does_a_start_with_one_that_sees_nothing(
    children: Children, consul: Path
) -> None:
    member = Member(children, consul, "one", "-hcl", ACL)
    member.token = "root"
    member.start().wait_leader()
    rules = 'service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }'
    which = policy(member, rules)
    file = children.folder / "token"
    token = str(member.put("/v1/acl/token", {"Policies": [{"ID": which}]})["SecretID"])
    file.write_text(token)
    member.register("web", start_backend(children, "web"))
    mesh = ConsulMesh(children, "--consul", member.url, "--consul-token-file", str(file), objects=[route("web")])
    mesh.wait_ok("web")
    with Background(mesh.port, "web") as traffic:
        policy(member, 'service_prefix "" { policy = "read" }', which)
        member.register("web", start_backend(children, "web", number="2"))  # wakes the query about it
        mesh.wait(lambda: "Hidden" in mesh.problems(), "it to be said that no instance is shown")
        mesh.wait(lambda: mesh.is_stale("web"), "it to be stale")
        policy(member, rules, which)
        mesh.wait(lambda: traffic.answered("web-v1-2"), "the rights to be back")
        mesh.wait(lambda: not mesh.problems(), "nothing to be wrong any more")

        mesh.serving.child.stop()
        children.started.remove(mesh.serving.child)
        file.write_text("")
        mesh.serving = mesh.serve(xds=mesh.serving.xds)
        mesh.wait(lambda: "RightsLost" in mesh.problems() and mesh.is_stale("web"), "what was known, as stale")
        file.write_text(token)
        mesh.wait(lambda: mesh.is_fresh("web") and not mesh.problems(), "the token to be used")
    assert not traffic.failures


async def aside(call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """A call that blocks, beside the loop that the line runs on."""
    return await asyncio.to_thread(call, *arguments, **named)


@pytest.mark.faults
async def test_connections_that_are_open_at_one_end_only_are_noticed(children: Children, agent: ConsulAgent) -> None:
    first = await aside(start_backend, children, "web")
    await aside(agent.register, "web", first)
    line = Line("127.0.0.1", agent.port)
    await line.restore()
    try:
        url = f"http://127.0.0.1:{line.port}"
        mesh: ConsulMesh = await aside(ConsulMesh, children, "--consul", url, objects=[route("web")])
        await aside(mesh.wait_ok, "web")
        with Background(mesh.port, "web") as traffic:
            line.abandon()
            await aside(agent.register, "web", await aside(start_backend, children, "web", number="2"))
            await aside(mesh.wait, lambda: traffic.answered("web-v1-2"), "a change meanwhile")

            await line.cut()
            await aside(mesh.wait, lambda: mesh.is_stale("web"), "the cut to be noticed")
            await aside(agent.deregister, f"web-{first}")
            await line.restore()
            await aside(mesh.wait, lambda: traffic.silent_for("web-v1-1") > 0.5, "a change during the cut")
            await aside(mesh.wait, lambda: mesh.is_fresh("web"), "it to be fresh")
        assert not traffic.failures
    finally:
        await line.cut()


@pytest.mark.faults
def test_agent_that_takes_few_connections_is_obeyed_and_everything_still_arrives(
    children: Children, consul: Path
) -> None:
    agent = start_agent(children, consul, "consul", "-hcl", "limits { http_max_conns_per_client = 12 }")
    for number in range(40):
        agent.register(f"s{number}", 9000 + number)
    agent.register("web", start_backend(children, "web"))
    # The agent takes no connection of ours while all are taken: something that changes by itself.
    agent.register("short", 9999, Check={"TTL": "90s", "Status": "passing"}, state="")
    mesh = ConsulMesh(children, "--consul", agent.url, objects=[route("web")])
    mesh.wait(lambda: len(mesh.services()) == 43, "all services")
    mesh.wait(lambda: mesh.services()["short"]["endpoints"] == 1, "the one of which something is heard")
    mesh.wait(lambda: mesh.metric('fairlead_consul_queries{state="allowed"}') <= 12, "fewer queries")
    mesh.wait_ok("web")
    mesh.wait(
        lambda: not mesh.services()["short"]["endpoints"], "an instance of which nothing is heard to leave", timeout=240
    )


@pytest.mark.faults
def test_agent_that_makes_few_rpcs_is_obeyed_and_everything_still_arrives(children: Children, consul: Path) -> None:
    server = Member(children, consul, "server").start().wait_leader()
    for number in range(40):
        server.register(f"s{number}", 9000 + number)
    first = server.register("web", start_backend(children, "web"))
    few = "limits { rpc_rate = 5 rpc_max_burst = 10 }"
    client = Member(children, consul, "client", "-hcl", few, servers=0).join(server).start().wait_leader()
    mesh = ConsulMesh(children, "--consul", client.url, objects=[route("web")])
    everything_arrives_within_limits(mesh, server, first)


@pytest.mark.faults
def test_agent_whose_servers_hang_costs_no_request_and_what_changed_meanwhile_arrives(
    children: Children, consul: Path
) -> None:
    server = Member(children, consul, "server").start().wait_leader()
    client = Member(children, consul, "client", servers=0).join(server).start().wait_leader()
    first = server.register("web", start_backend(children, "web"))
    mesh = ConsulMesh(children, "--consul", client.url, objects=[route("web")])
    mesh.wait_ok("web")
    with Background(mesh.port, "web") as traffic:
        server.child.signal_group(signal.SIGSTOP)  # its connections stay open and nothing comes over them
        try:
            mesh.wait(lambda: mesh.is_stale("web"), "it to be stale")
            assert mesh.problems()
            assert mesh.count("web", 20).keys() == {"web-v1-1"}
        finally:
            server.child.signal_group(signal.SIGCONT)
        server.wait_leader()
        server.register("web", start_backend(children, "web", number="2"))
        mesh.wait(lambda: traffic.answered("web-v1-2"), "what changed", timeout=180)
        server.deregister(first)
        mesh.wait(lambda: traffic.silent_for("web-v1-1") > 0.5, "the deregistered one to leave", timeout=180)
        mesh.wait(lambda: mesh.is_fresh("web") and not mesh.problems(), "all to be well", timeout=180)
    assert traffic.requests > 100
    assert not traffic.failures


@pytest.mark.faults
async def test_a_server_that_starts_again_finds_all_though_its_old_queries_are_still_counted(
    children: Children, consul: Path
) -> None:
    limit = "limits { http_max_conns_per_client = 60 }"
    agent = await aside(start_agent, children, consul, "consul", "-hcl", limit)
    for number in range(44):
        await aside(agent.register, f"s{number}", 9000 + number)

    @contextlib.asynccontextmanager
    async def following() -> AsyncIterator[Callable[[], Mapping[str, Mapping[str, float]]]]:
        client = HttpClient(Target(url=agent.url))
        source = ConsulSource(client, Plan(polls=50))
        batches = source.batches()
        try:
            async with asyncio.timeout(200):
                first = await anext(batches)
            assert {change.key.name for change in first if isinstance(change.key, DiscoveredServiceKey)} == {
                "consul",
                *(f"s{number}" for number in range(44)),
            }
            yield source.numbers
        finally:
            await batches.aclose()
            await client.close()

    async with following() as numbers:
        assert not numbers()["failures"]
        await until(lambda: numbers()["polls"]["open"] == 45)
    # An old agent notices at the end of a query's wait that nobody hears its answer, 1.15 at once.
    async with following() as numbers:
        assert numbers()["failures"] or version_of(consul) > (1, 8)
        await until(lambda: numbers()["polls"]["open"] == 45)


async def until(condition: Callable[[], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + 200
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)
