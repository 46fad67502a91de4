"""What Debian's agent lacks, with a newer `consul` on PATH: L7 intentions, streaming, limits on requests.

Its answers are kept in `recorded/` for machines without such an agent; with `--rewrite-recorded` they are written anew.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from discovery.consul import catalog, wire
from discovery.consul.http import Consul, Target
from discovery.consul.reading import Reading
from discovery.consul.watch_state import Ask
from fairlead.demo.traffic import Background
from fairlead.processes import Children
from tests.support.consul import ConsulAgent, start_agent, version_of
from tests.support.consul_cluster import Member
from tests.support.consul_mesh import ConsulMesh, everything_arrives_within_limits, route
from tests.support.consul_recorded import Recorded, Recording, recording, written
from tests.support.programs import FAIRLEAD, start_backend, start_serve

pytestmark = pytest.mark.timeout(600)

STREAMING = "use_streaming_backend = true rpc { enable_streaming = true }"
INTENTIONS: tuple[dict[str, Any], ...] = (
    {"Kind": "service-defaults", "Name": "web", "Protocol": "http"},
    {
        "Kind": "service-intentions",
        "Name": "web",
        "Sources": [
            {
                "Name": "api",
                "Description": "the shop's",
                "Permissions": [
                    {"Action": "deny", "HTTP": {"PathExact": "/admin"}},
                    {
                        "Action": "allow",
                        "HTTP": {
                            "PathPrefix": "/v1",
                            "Methods": ["GET", "HEAD"],
                            "Header": [
                                {"Name": "x-user", "Present": True},
                                {"Name": "x-team", "Exact": "shop", "Invert": True},
                            ],
                        },
                    },
                    {"Action": "allow", "HTTP": {"PathRegex": "/r.*"}},
                ],
            },
            {"Name": "cron", "Action": "allow"},
            {"Name": "*", "Action": "deny"},
        ],
    },
)


@pytest.fixture(scope="session")
def newer(consul: Path) -> Path:
    """A Consul from 1.15 on; skips where there is none."""
    if (version := version_of(consul)) < (1, 15):
        pytest.skip(f"needs Consul 1.15 or newer on PATH, and this is {version[0]}.{version[1]}")
    return consul


def intend(agent: ConsulAgent, *entries: Mapping[str, Any]) -> None:
    for entry in entries or INTENTIONS:
        agent.put("/v1/config", entry)


def test_l7_intentions_are_shown_and_followed_by_the_api_and_the_command_line(newer: Path, children: Children) -> None:
    agent = start_agent(children, newer)
    agent.register("web", 8080)
    intend(agent)
    serving = start_serve(children, "--consul", agent.url)

    def rules() -> list[Any]:
        items = serving.client.get("/api/v1/authorizations", service="web")["items"]
        return [rule for item in items for rule in item["rules"]]

    children.wait_until(lambda: len(rules()) == 3, what="the intentions to be told", timeout=60)
    [api] = [rule for rule in rules() if rule["caller"]["name"] == "api"]
    assert api == {
        "caller": {"name": "api"},
        "precedence": 9,
        "description": "the shop's",
        "permissions": [
            {"action": "DENY", "path": {"exact": "/admin"}},
            {
                "action": "ALLOW",
                "path": {"prefix": "/v1"},
                "methods": ["GET", "HEAD"],
                "headers": [
                    {"name": "x-user", "present": True},
                    {"name": "x-team", "exact": "shop", "invert": True},
                ],
            },
            {"action": "ALLOW", "path": {"regex": "/r.*"}},
        ],
    }
    command = [*FAIRLEAD, "get", "authorizations", "web", "--server", f"http://127.0.0.1:{serving.api}"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    told = "DENY path exact /admin; ALLOW GET HEAD path prefix /v1 header x-user header x-team; ALLOW path regex /r.*"
    assert told in " ".join(printed.split())
    entry = {**INTENTIONS[1], "Sources": [{"Name": "api", "Permissions": [{"Action": "deny", "HTTP": {}}]}]}
    entry["Sources"][0]["Permissions"][0]["HTTP"] = {"PathPrefix": "/"}
    intend(agent, entry)
    children.wait_until(lambda: len(rules()) == 1, what="the change to be followed", timeout=60)
    assert rules()[0]["permissions"] == [{"action": "DENY", "path": {"prefix": "/"}}]
    agent.client.request("DELETE", "/v1/config/service-intentions/web")
    children.wait_until(lambda: not rules(), what="the removal to be followed", timeout=60)


def test_l4_intentions_of_both_forms_decide_as_the_agent_does(newer: Path, children: Children) -> None:
    agent = start_agent(children, newer)
    for name in ("web", "db"):
        agent.register(name, 8080)
    agent.client.request(
        "POST",
        "/v1/connect/intentions",
        body={"SourceName": "web", "DestinationName": "db", "SourceType": "consul", "Action": "deny"},
    )
    intend(agent, {"Kind": "service-intentions", "Name": "web", "Sources": [{"Name": "db", "Action": "deny"}]})
    serving = start_serve(children, "--consul", agent.url)

    def decision(caller: str, called: str) -> list[str]:
        items = serving.client.get("/api/v1/authorizations", service=called, caller=caller)["items"]
        return [rule["action"] for item in items for rule in item["rules"]]

    for caller, called in (("web", "db"), ("db", "web")):
        check = f"/v1/connect/intentions/check?source={caller}&destination={called}"
        assert agent.client.request("GET", check).json() == {"Allowed": False}
        children.wait_until(
            lambda caller=caller, called=called: decision(caller, called) == ["DENY"],  # type: ignore[misc]
            what=f"{caller} to be denied {called}",
            timeout=60,
        )


@pytest.mark.envoy
def test_cached_reads_come_by_streaming_and_everything_arrives(newer: Path, children: Children) -> None:
    server = Member(children, newer, "server", "-hcl", STREAMING).start().wait_leader()
    client = Member(children, newer, "client", "-hcl", STREAMING, servers=0).join(server).start().wait_leader()
    first = client.register("web", start_backend(children, "web"))
    asked = client.client.request("GET", "/v1/health/service/web?cached")
    assert asked.headers["X-Consul-Query-Backend"] == "streaming"
    mesh = ConsulMesh(children, "--consul", client.url, "--consul-reads", "cached", objects=[route("web")])
    mesh.wait_ok("web")
    with Background(mesh.port, "web") as traffic:
        second = client.register("web", start_backend(children, "web", number="2"))
        mesh.wait(lambda: traffic.answered("web-v1-2"), "a second instance")
        client.check(first, "fail")
        mesh.wait(lambda: traffic.silent_for("web-v1-1") > 0.5, "a critical one to leave")
        client.check(first, "pass")
        client.maintain(second, enable=True)
        mesh.wait(lambda: traffic.silent_for("web-v1-2") > 0.5, "one in maintenance to leave")
        server.kill()
        mesh.wait(lambda: mesh.is_stale("web"), "it to be stale without servers", timeout=180)
        assert mesh.count("web", 20).keys() == {"web-v1-1"}
        server.start()
        client.wait_leader()
        client.maintain(second, enable=False)
        mesh.wait(lambda: len(mesh.count("web", 20)) == 2, "what changed afterwards", timeout=180)
        mesh.wait(lambda: mesh.is_fresh("web") and not mesh.problems(), "all to be well", timeout=180)
    assert not traffic.failures


@pytest.mark.envoy
@pytest.mark.faults
def test_servers_that_limit_requests_are_obeyed_and_everything_still_arrives(newer: Path, children: Children) -> None:
    limits = 'limits { request_limits { mode = "enforcing" read_rate = 4 write_rate = 1000 } }'
    server = Member(children, newer, "server", "-hcl", limits).start().wait_leader()
    for number in range(40):
        server.register(f"s{number}", 9000 + number)
    first = server.register("web", start_backend(children, "web"))
    # The server itself: a client agent would ask again by itself, for seven seconds.
    mesh = ConsulMesh(children, "--consul", server.url, objects=[route("web")])
    everything_arrives_within_limits(mesh, server, first)


# -- recorded ----------------------------------------------------------------------------------------------------------


async def asked(consul: Consul, reading: Reading | None, path: str, until: Callable[[bytes], bool]) -> Recorded:
    """An answer, once it says what it should: agents tell their servers of parts of a change one by one."""
    async with asyncio.timeout(60):
        while True:
            answer = await (reading.ask(path, "", Ask(0, 1)) if reading is not None else consul.get(path))
            if until(answer.body):
                break
            await asyncio.sleep(0.1)
    headers = {name: value for name, value in answer.headers.items() if name.startswith(("X-C", "Content-Type"))}
    query = {"cached": ""} if reading is not None else {}
    return Recorded(path, query, 200, headers, json.loads(answer.body))


def scrubbed(answers: list[Recorded]) -> tuple[Recorded, ...]:
    """Without what differs from run to run. Indexes are numbered in their order."""
    text = json.dumps([[each.headers, each.body] for each in answers])
    indexes = sorted({int(found) for found in re.findall(r'(?:Index": |Index": ")(\d+)', text)})
    number = {str(index): str(at) for at, index in enumerate(indexes, 10)}
    text = re.sub(r'(Index": "?)(\d+)', lambda found: found[1] + number[found[2]], text)
    text = re.sub(r'("ID": ")[0-9a-f]{8}-[-0-9a-f]{27}"', r'\g<1>00000000-0000-0000-0000-000000000001"', text)
    text = re.sub(r'("Node": ")[^"{]+"', r'\g<1>node-1"', text)
    text = re.sub(r'("Port": |_port": "|addr": "[^"]*:)(?!8080)\d+', r"\g<1>8300", text)
    text = re.sub(r'("X-Cache": ")(?:HIT|MISS)"', r'\g<1>HIT"', text)
    kept = json.loads(text)
    return tuple(
        Recorded(each.path, each.query, each.status, headers, body)
        for each, (headers, body) in zip(answers, kept, strict=True)
    )


async def test_agent_answers_as_it_was_recorded(
    newer: Path, children: Children, request: pytest.FixtureRequest
) -> None:
    agent = await asyncio.to_thread(start_agent, children, newer, "consul", "-hcl", STREAMING)
    consul = Consul(Target(url=agent.url))
    reading = Reading(consul, reads="cached")
    try:
        await asyncio.to_thread(agent.register, "web", 8080, Tags=["version=v1"], Weights={"Passing": 3, "Warning": 1})
        health = "/v1/health/service/web"

        def states(*wanted: str) -> Callable[[bytes], bool]:
            def said(body: bytes) -> bool:
                found = wire.entries(body)
                rows = catalog.rows(found).get("default")
                return tuple(check.status for entry in found for check in entry.checks or ()) == wanted and (
                    rows is not None
                )

            return said

        answers = [
            await asked(consul, None, "/v1/catalog/services", lambda body: b"web" in body),
            await asked(consul, reading, "/v1/health/service/consul", states("passing")),
            await asked(consul, reading, health, states("passing", "passing")),
        ]
        await asyncio.to_thread(agent.check, "web-8080", "warn")
        answers.append(await asked(consul, reading, health, states("passing", "warning")))
        await asyncio.to_thread(intend, agent)
        whole = b'"Action": "deny"'
        answers.append(await asked(consul, None, "/v1/config/service-intentions", lambda body: body.count(whole) == 2))
    finally:
        await consul.close()
    said = await asyncio.to_thread(
        subprocess.run, [str(newer), "version"], capture_output=True, text=True, timeout=60, check=True
    )
    made = Recording(said.stdout.splitlines()[0], "recorded", scrubbed(answers))
    if request.config.getoption("--rewrite-recorded", default=False):
        await asyncio.to_thread(written, "newer", made)
    if made.agent == (kept := recording("newer")).agent:
        assert [shape(each) for each in made.answers] == [shape(each) for each in kept.answers]


def shape(said: Recorded) -> Any:
    """An answer without the numbers of indexes, which depend on what else the agent did."""
    return json.loads(re.sub(r'(Index": "?)\d+', r"\g<1>0", json.dumps([said.path, said.headers, said.body])))
