"""Real Consul agents for tests: the `consul` on PATH, else Debian's 1.8.7, fetched with apt without root."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairlead.client import Client
from fairlead.demo.consul_scene import no_grpc
from fairlead.errors import CommandError
from fairlead.processes import Child, Children, free_port

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fairlead" / "consul-1.8.7"
_SUITE = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bullseye main\n"


class NoConsulError(Exception):
    """There is none, and none could be fetched."""


def consul_binary() -> Path | None:
    """A `consul` to run; None where there is none and none can be fetched."""
    try:
        return _found()
    except NoConsulError:
        return None


def required_consul() -> Path:
    """A `consul` to run, for a test: skips it where there is none. In CI it fails, or a broken fetch passes unseen."""
    import pytest

    try:
        return _found()
    except NoConsulError as error:
        if os.environ.get("CI", "").lower() not in ("", "0", "false"):
            pytest.fail(f"{error}. Fix: put a consul on PATH, or let apt reach Debian's mirrors", pytrace=False)
        pytest.skip(str(error))


def _found() -> Path:
    if found := shutil.which("consul"):
        return Path(found)
    binary = _CACHE / "usr" / "bin" / "consul"
    if not binary.exists():
        try:
            _fetch()
        except (OSError, subprocess.SubprocessError, StopIteration) as error:
            said = getattr(error, "stderr", None) or b""
            words = said.decode("utf-8", "replace").strip().splitlines()[-1:] or [str(error) or type(error).__name__]
            raise NoConsulError(f"there is no consul on PATH, and Debian's could not be fetched: {words[0]}") from error
    if not binary.exists():
        raise NoConsulError("there is no consul on PATH, and Debian's package has none")
    return binary


def _fetch() -> None:
    work = _CACHE.with_name(f"consul-apt.{os.getpid()}")
    for folder in ("lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    (work / "sources.list").write_text(_SUITE)
    options = [
        *("-o", f"Dir::Etc::sourcelist={work}/sources.list", "-o", "Dir::Etc::sourceparts=-"),
        *("-o", f"Dir::State::lists={work}/lists", "-o", f"Dir::Cache={work}/cache"),
    ]
    try:
        for what in (("update",), ("download", "consul")):
            subprocess.run(["apt-get", *options, *what], cwd=work, check=True, capture_output=True, timeout=300)
        made = work / "made"
        subprocess.run(["dpkg", "-x", str(next(work.glob("consul_*.deb"))), str(made)], check=True, timeout=60)
        with contextlib.suppress(OSError):  # another run was faster
            made.rename(_CACHE)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def version_of(binary: Path) -> tuple[int, int]:
    """Its version, like (1, 8)."""
    said = subprocess.run([str(binary), "version"], capture_output=True, text=True, timeout=60, check=True).stdout
    found = re.match(r"Consul v(\d+)\.(\d+)", said)
    assert found is not None, said
    return int(found[1]), int(found[2])


@dataclass
class ConsulAgent:
    """A running agent."""

    child: Child
    port: int
    token: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def client(self) -> Client:
        """Its API."""
        return Client(self.url, timeout=30, token=self.token)

    def put(self, path: str, body: object = None) -> Any:
        """PUT; what it answers."""
        return self.client.request("PUT", path, body=body).json()

    def register(self, name: str, port: int, *, id: str = "", state: str = "passing", **more: object) -> str:  # noqa: A002
        """Register an instance with a check of its own; its id."""
        own = id or f"{name}-{port}"
        check = {"CheckID": f"check:{own}", "Name": "alive", "TTL": "3600s", "Status": state}
        body = {"Name": name, "ID": own, "Address": "127.0.0.1", "Port": port, "Check": check, **more}
        self.put("/v1/agent/service/register", body)
        if state == "passing":
            self.check(own, "pass")  # an agent that is started again knows what it was told, and not the beginning
        return own

    def deregister(self, own: str) -> None:
        """Deregister an instance."""
        self.put(f"/v1/agent/service/deregister/{own}")

    def check(self, own: str, state: str) -> None:
        """Have an instance's check say `pass`, `warn` or `fail`."""
        self.put(f"/v1/agent/check/{state}/check:{own}")

    def maintain(self, own: str, *, enable: bool) -> None:
        """Put an instance into maintenance mode, or take it out."""
        self.put(f"/v1/agent/service/maintenance/{own}?enable={str(enable).lower()}")


def start_agent(children: Children, binary: Path, name: str = "consul", *arguments: str, port: int = 0) -> ConsulAgent:
    """Run a dev agent on free ports (its HTTP API on `port`, if given) and wait until it leads itself."""
    http, dns, serf, server = free_ports(4, but=port)
    http = port or http
    ports = ["-http-port", http, "-dns-port", dns, "-serf-lan-port", serf, "-serf-wan-port", "-1"]
    command = [str(binary), "agent", "-dev", "-bind", "127.0.0.1", *map(str, ports), "-server-port", str(server)]
    agent = ConsulAgent(children.start(name, [*command, *no_grpc(str(binary)), *arguments]), http)

    def leads() -> bool:
        try:
            return bool(agent.client.request("GET", "/v1/catalog/service/consul").json())
        except CommandError:
            return False

    children.wait_until(leads, what=f"{name} to have a leader")
    return agent


def free_ports(count: int, *, but: int = 0) -> list[int]:
    """So many different ports, none of them `but`."""
    found: set[int] = set()
    while len(found) < count:
        found |= {free_port()} - {but}
    return list(found)


if __name__ == "__main__":
    found = consul_binary()
    print(found if found is not None else "consul")
