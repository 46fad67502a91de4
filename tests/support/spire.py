"""A real SPIRE for tests: one server, one agent, on loopback; workloads are told apart by their user and program.

Its configuration is that of the page (`docs/how-to/spire.md`). The programs are those on PATH, else the ones that
`python -m tests.support.spire` has built from their Go module.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fairlead.envoy_binary import find_envoy
from fairlead.processes import Child, Children, free_port
from tests.docs.pages import blocks

VERSION: Final = "v1.13.3"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fairlead" / f"spire-{VERSION}"
_PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "spire.md"
_PROGRAMS: Final = ("spire-server", "spire-agent")


def spire_programs() -> dict[str, Path] | None:
    """The programs by name; None where one is missing."""
    found = {}
    for name in _PROGRAMS:
        path = shutil.which(name) or str(_CACHE / name)
        if not os.access(path, os.X_OK):
            return None
        found[name] = Path(path)
    return found


def build() -> None:
    """Build them, once: some ten minutes on 2 cores. Ends with what is missing, where something is."""
    if spire_programs() is not None:
        return
    for tool, package in (("go", "golang (1.26 or newer)"), ("gcc", "gcc")):
        if not shutil.which(tool):
            sys.exit(f"SPIRE is built from its Go module, and there is no `{tool}` on PATH. Fix: install {package}")
    _CACHE.mkdir(parents=True, exist_ok=True)
    print(f"building SPIRE {VERSION} from its Go module, once: some ten minutes on 2 cores", flush=True)
    targets = [f"github.com/spiffe/spire/cmd/{name}" for name in _PROGRAMS]
    environment = {**os.environ, "GOBIN": str(_CACHE)}
    with tempfile.TemporaryDirectory() as folder:
        # A module of its own, for `go install NAME@VERSION` asks for a list of versions that not every proxy gives.
        (Path(folder) / "go.mod").write_text("module spire\n\ngo 1.26\n")
        for command in (
            ["go", "get", "-tool", *(f"{target}@{VERSION}" for target in targets)],
            ["go", "install", "-ldflags=-s -w", *targets],
        ):
            if subprocess.run(command, cwd=folder, env=environment, check=False).returncode:
                sys.exit(f"SPIRE could not be built (see above). Fix: or put {' and '.join(_PROGRAMS)} on PATH")


class Spire:
    """A server and an agent of a trust domain; certificates live for `life` seconds. `start` it first."""

    def __init__(
        self,
        children: Children,
        programs: dict[str, Path],
        trust_domain: str,
        *,
        life: int = 3_600,
        more: str = "",
        env: Mapping[str, str] | None = None,
    ) -> None:
        """`more` is added to the server's own section of its configuration, `env` to its environment."""
        self._env = env
        self._children = children
        self._programs = programs
        self.trust_domain = trust_domain
        self.life = life
        self.folder = children.folder / f"spire-{trust_domain}"
        for name in ("server", "agent", "programs"):
            (self.folder / name).mkdir(parents=True)
        self.port = free_port()
        self.socket = self.folder / "agent.sock"
        self._admin = self.folder / "server.sock"
        self._server_config = self.folder / "server.conf"
        self._server_config.write_text(self._config("server").replace("server {", "server {" + more, 1))
        self._agent_config = self.folder / "agent.conf"
        quick = 'experimental { sync_interval = "1s" }'
        self._agent_config.write_text(self._config("agent").replace("agent {", f"agent {{\n  {quick}", 1))
        self.agent: Child | None = None

    def start(self) -> Spire:
        """Run both, the agent with a join token of the server's."""
        self.start_server()
        (self.folder / "bundle.pem").write_text(self.server("bundle", "show"))
        token = json.loads(self.server("token", "generate", "-output", "json", "-spiffeID", self.id("/node")))["value"]
        (self.folder / "token").write_text(token)
        self.start_agent()
        return self

    def start_server(self) -> None:
        """Run the server, and wait until it answers."""
        command = [str(self._programs["spire-server"]), "run", "-config", str(self._server_config)]
        name = f"spire-server-{self.trust_domain}"
        self._children.start(name, command, env=self._env)
        self._children.wait_until(lambda: self._healthy("spire-server", self._admin), what=f"{name} to answer")

    def start_agent(self) -> None:
        """Run the agent, also again: it keeps its own key."""
        command = [str(self._programs["spire-agent"]), "run", "-config", str(self._agent_config)]
        name = f"spire-agent-{self.trust_domain}"
        self.agent = self._children.start(name, command)
        self._children.wait_until(lambda: self._healthy("spire-agent", self.socket), what=f"{name} to answer")

    def kill_agent(self) -> None:
        """As a power cut does it."""
        assert self.agent is not None
        self.agent.signal_group(signal.SIGKILL)
        self.agent.process.wait(20)
        self._children.started.remove(self.agent)
        self.agent = None

    def _healthy(self, program: str, socket: Path) -> bool:
        command = [str(self._programs[program]), "healthcheck", "-socketPath", str(socket)]
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0

    def id(self, path: str) -> str:
        """A SPIFFE ID of its trust domain."""
        return f"spiffe://{self.trust_domain}{path}"

    def server(self, *command: str) -> str:
        """What an operator's command prints."""
        whole = [str(self._programs["spire-server"]), *command, "-socketPath", str(self._admin)]
        done = subprocess.run(whole, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def entry(self, path: str, program: Path, *flags: str, life: int = 0) -> None:
        """Register a program of this user as the workload with that identity."""
        selectors = ("-selector", f"unix:uid:{os.getuid()}", "-selector", f"unix:path:{program}")
        ttl = ("-x509SVIDTTL", str(life or self.life))
        self.server(
            "entry", "create", "-parentID", self.id("/node"), "-spiffeID", self.id(path), *selectors, *ttl, *flags
        )

    def program(self, name: str) -> Path:
        """An Envoy of that workload alone: the same program at a path of its own, by which SPIRE tells it."""
        envoy = Path(find_envoy())
        if envoy.read_bytes()[:2] == b"#!":  # the wheel's launcher
            envoy = next(envoy.parent.parent.glob("lib/python*/site-packages/envoy/_bin/envoy"))
        made = self.folder / "programs" / name
        try:
            os.link(envoy.resolve(), made)
        except OSError:  # another file system
            shutil.copy(envoy, made)
        return made

    def fetch(self, folder: Path) -> None:
        """Write certificate, key and bundle of the agent's program, as helpers of SPIRE's do, each replaced whole."""
        fresh = folder / "fresh"
        fresh.mkdir(parents=True, exist_ok=True)
        command = [str(self._programs["spire-agent"]), "api", "fetch", "x509", "-socketPath", str(self.socket)]
        command += ["-timeout", "10s", "-write", str(fresh)]

        def fetched() -> bool:  # an agent hears of an entry some time after it was made
            return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0

        self._children.wait_until(fetched, what="a certificate of SPIRE's")
        for name in ("bundle.0.pem", "svid.0.key", "svid.0.pem"):
            (fresh / name).replace(folder / name)

    @property
    def agent_program(self) -> Path:
        """What fetches with `fetch`."""
        return self._programs["spire-agent"].resolve()

    def _config(self, section: str) -> str:
        """A file of the page, for this folder, port and trust domain."""
        [found] = (one.text for one in blocks(_PAGE.read_text()) if one.text.startswith(f"{section} {{"))
        for shown, here in (
            ("/run/spire", str(self.folder)),
            ("8081", str(self.port)),
            ("example.org", self.trust_domain),
        ):
            assert shown in found
            found = found.replace(shown, here)
        return found


if __name__ == "__main__":
    build()
