"""Whole programs for tests: `fairlead serve` and a real Envoy, started on free ports and known to be up.

Use them with the `children` fixture, which ends them. Waiting is on conditions with a deadline, never for a time.
"""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairlead.client import Client
from fairlead.demo.traffic import Answer, Visitor
from fairlead.errors import CommandError
from fairlead.processes import Child, Children

FAIRLEAD = (sys.executable, "-m", "fairlead")


@dataclass
class Serving:
    """A running `fairlead serve`."""

    child: Child
    xds: int
    api: int

    @property
    def client(self) -> Client:
        """Its API."""
        return Client(f"http://127.0.0.1:{self.api}", timeout=30)


def start_serve(
    children: Children,
    *arguments: str,
    name: str = "serve",
    xds: int = 0,
    api: int = 0,
    store: Path | None = None,
    env: Mapping[str, str] | None = None,
    ready: bool = True,
    secure: bool = False,
) -> Serving:
    """Run `fairlead serve --insecure-xds` with more arguments; port 0 is any free one. `secure`: without that flag."""
    store = store if store is not None else children.folder / "fairlead.db"
    log = children.folder / f"{name}.log"
    begin = log.stat().st_size if log.exists() else 0
    child = children.start(
        name,
        [
            *(
                *FAIRLEAD,
                "serve",
                *(() if secure else ("--insecure-xds",)),
                "--store",
                f"sqlite:{store}",
                "--drain-time",
                "0.2",
            ),
            *("--xds", f"127.0.0.1:{xds}", "--api", f"127.0.0.1:{api}", *arguments),
        ],
        env=env,
    )

    def found(what: str) -> int:
        match = re.search(rf"^{what} listening on 127\.0\.0\.1:(\d+)$", log.read_text()[begin:], re.MULTILINE)
        return int(match[1]) if match else 0

    children.wait_until(lambda: bool(found("api")), what=f"{name} to listen")
    serving = Serving(child, found("xds"), found("api"))
    if ready:
        children.wait_until(lambda: answers(serving.client, "/readyz"), what=f"{name} to be ready")
    return serving


def answers(client: Client, path: str) -> bool:
    """Whether a GET is answered with success."""
    try:
        client.request("GET", path)
    except CommandError:
        return False
    return True


@dataclass
class RunningEnvoy:
    """A running Envoy."""

    child: Child
    admin: int

    def get(self, path: str) -> str:
        """GET from the admin listener, as text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=30)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def stat(self, name: str) -> int:
        """A counter or gauge, 0 while Envoy does not have it."""
        stats = json.loads(self.get(f"/stats?format=json&filter=^{re.escape(name)}$"))["stats"]
        return int(next((stat["value"] for stat in stats if stat.get("name") == name), 0))

    def sum(self, ending: str) -> int:
        """The sum of all counters and gauges whose names end so."""
        found = re.findall(rf"^\S*{re.escape(ending)}: (\d+)$", self.get("/stats?usedonly"), re.MULTILINE)
        return sum(map(int, found))

    def config(self, *, eds: bool = False) -> dict[str, Any]:
        """The configuration dump."""
        dump: dict[str, Any] = json.loads(self.get("/config_dump" + ("?include_eds" if eds else "")))
        return dump


def start_envoy(
    children: Children,
    kind: str,
    name: str,
    *flags: str,
    xds: int,
    arguments: Sequence[str] = ("--log-level", "warning", "--concurrency", "1"),
    ready: bool = True,
    binary: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> RunningEnvoy:
    """Run `fairlead envoy KIND --name NAME`; `ready` waits until Envoy has its configuration.

    With `binary` it is that Envoy that runs, with what `fairlead bootstrap` prints.
    """
    label = f"envoy-{kind}-{name}"
    admin_path = children.folder / f"{label}.admin"
    admin_path.unlink(missing_ok=True)
    known = [kind, "--name", name, "--xds", f"127.0.0.1:{xds}", "--admin-port", "0", *flags]
    arguments = ["--admin-address-path", str(admin_path), *arguments]
    if binary is None:
        command = [*FAIRLEAD, "envoy", *known, "--", *arguments]
    else:
        bootstrap = children.folder / f"{label}.yaml"
        bootstrap.write_bytes(
            subprocess.run([*FAIRLEAD, "bootstrap", *known], check=True, stdout=subprocess.PIPE).stdout
        )
        command = [str(binary), "-c", str(bootstrap), "--disable-hot-restart", *arguments]
    child = children.start(label, command, env=env)
    children.wait_until(lambda: admin_path.exists() and ":" in admin_path.read_text(), what="Envoy's admin listener")
    running = RunningEnvoy(child, int(admin_path.read_text().rpartition(":")[2]))
    if ready:
        children.wait_until(lambda: running.get("/ready").startswith("LIVE"), what="Envoy to be ready")
    return running


def ask(port: int, host: str, path: str = "/", **headers: str) -> Answer:
    """One request on a connection of its own; underscores in header names stand for dashes."""
    visitor = Visitor(port)
    try:
        return visitor.ask(host, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    finally:
        visitor.close()


def reached(port: int, host: str) -> bool:
    """Whether a request is answered 200; a port on which nobody listens yet, or not any more, is no error."""
    try:
        return ask(port, host).status == http.client.OK
    except ConnectionError:
        return False


def start_backend(
    children: Children, service: str, version: str = "v1", number: str = "1", *, host: str = "127.0.0.1"
) -> int:
    """A sample backend; its port."""
    name = f"{service}-{version}-{number}"
    command = [sys.executable, "-m", "fairlead.demo.backend", "--name", service, "--version", version]
    child = children.start(name, [*command, "--instance", name, "--host", host])
    children.wait_until(lambda: "\n" in child.log.read_text(), what=name)
    return int(child.log.read_text().partition("\n")[0])
