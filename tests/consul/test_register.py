"""An instance that is put into a real Consul from outside takes traffic for as long as it is heard from."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from fairlead.consul.registration import ConsulRegistrar, Instance
from fairlead.errors import CommandError
from fairlead.processes import Child, Children
from tests.support.consul import ConsulAgent
from tests.support.consul_cluster import Member
from tests.support.consul_mesh import ConsulMesh, route
from tests.support.programs import FAIRLEAD, start_backend


def command(agent: ConsulAgent, port: int, *flags: str) -> list[str]:
    where = ["--address", "127.0.0.1", "--port", f"http={port}", "--consul", agent.url]
    return [*FAIRLEAD, "register", "web", *where, *flags]


@pytest.mark.envoy
def test_it_takes_traffic_while_it_is_heard_from_and_leaves(children: Children, agent: ConsulAgent) -> None:
    port = start_backend(children, "web")
    mesh = ConsulMesh(children, "--consul", agent.url, objects=[route("web")])

    def started(name: str, ttl: str) -> Child:
        return children.start(name, command(agent, port, "--ttl", ttl, "--label", "version=v2", "--weight", "3"))

    polite = started("polite", "600")
    mesh.wait_ok("web")
    (endpoint,) = mesh.serving.client.get("/api/v1/discovered/endpoints", service="web")["items"]
    assert (endpoint["labels"]["version"], endpoint["weight"]) == ("v2", 3)
    children.started.remove(polite)
    polite.process.send_signal(signal.SIGTERM)
    assert polite.process.wait(60) == 0
    mesh.wait_gone("web")

    killed = started("killed", "2")
    mesh.wait_ok("web")
    children.started.remove(killed)
    killed.process.kill()
    killed.process.wait(60)
    mesh.wait_gone("web")


def test_agent_that_has_forgotten_it_is_told_again(children: Children, consul: Path) -> None:
    agent = Member(children, consul, "one").start().wait_leader()
    children.start("register", command(agent, 9000, "--ttl", "1"))

    def there() -> bool:
        return bool(agent.client.request("GET", "/v1/health/service/web?passing=1").json())

    children.wait_until(there, what="it to be registered")
    agent.deregister("web-127.0.0.1-9000")
    children.wait_until(there, what="it to be registered again")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--port", "b=2"], "one port"),
        (["--zone", "a"], "the node's"),
        (["--address", "nowhere"], "not the IP address of one instance"),
        (["--address", "fe80::1%eth0"], "not the IP address of one instance"),
        (["--address", "0.0.0.0"], "not the IP address of one instance"),
        (["--label", "a.b=c"], "takes no 'a.b'"),
        (["--label", "fairlead-namespace=other"], "'fairlead-namespace' is what Fairlead writes"),
        (["--label", "fairlead-registration=a/b/c"], "'fairlead-registration' is what Fairlead writes"),
        (["--id", "a\nb"], "--id: 'a\\nb' cannot name an instance"),
        (["--id", "x" * 600], "cannot name an instance"),
        (["--namespace", "No_Such"], "--namespace: 'No_Such' cannot be the name of a namespace"),
        (["--ttl", "0.1"], "from 1 to 3600"),
        (["--ttl", "nan"], "from 1 to 3600"),
        (["--weight", "0"], "1 to 65535"),
        (["--consul", "localhost"], "is no agent's address"),
    ],
)
def test_what_consul_would_not_take_is_refused_with_the_fix(flags: list[str], words: str) -> None:
    agent = ConsulAgent(None, 1)  # type: ignore[arg-type]  # never asked
    made = subprocess.run(command(agent, 9000, *flags), capture_output=True, text=True, timeout=60, check=False)
    assert made.returncode == 2, made.stderr
    assert words in made.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--port", "http=0"], "from 1 to 65535"),
        (["--port", "http=65536"], "from 1 to 65535"),
        (["--port", "http=²"], "from 1 to 65535"),
        (["--port", "http=80", "--ttl", "0"], "from 1 to 3600"),
        (["--port", "http=80", "--ttl", "nan"], "from 1 to 3600"),
        (["--port", "http=80", "--ttl", "-1"], "from 1 to 3600"),
    ],
)
@pytest.mark.parametrize("place", ["--consul", "--server"])
def test_what_could_never_be_is_refused_before_anybody_is_asked(place: str, flags: list[str], words: str) -> None:
    given = ["--address", "127.0.0.1", "--once", place, "http://127.0.0.1:1", *flags]
    made = subprocess.run(
        [*FAIRLEAD, "register", "web", *given], capture_output=True, text=True, timeout=60, check=False
    )
    assert made.returncode == 2, made.stderr
    assert words in made.stderr


def test_an_agent_that_is_not_there_is_told_as_one() -> None:
    registrar = ConsulRegistrar("http://127.0.0.1:1", Instance(service="web", id="web-1", address="127.0.0.1", port=1))
    with pytest.raises(CommandError, match=r"does the Consul agent run there\? .*--consul"):
        registrar.alive()
