"""Child processes that never outlive us: for the demo, and for tests that start whole programs.

A child gets its own process group, so that Ctrl-C reaches only us and we decide the order of ending; and asks the
kernel for SIGKILL when we die (`PR_SET_PDEATHSIG`, prctl(2)), so that not even `kill -9` on us leaves one behind.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from fairlead.errors import CommandError

_ROLLS = 20
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Asks for SIGKILL at our death (PR_SET_PDEATHSIG is 1), unless that came first, and becomes the program. Not a
# `preexec_fn`: that makes Python fork instead of vfork, and gRPC's fork handlers then run in a half-made child of a
# test that uses gRPC itself.
_LAUNCH = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); "
    "os.getppid() == int(sys.argv[1]) and os.execvp(sys.argv[2], sys.argv[2:])"
)


class Child:
    """One running process; its output goes to `log`, whose end is quoted when something goes wrong."""

    def __init__(self, name: str, command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-ISc", _LAUNCH, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id, which is its group's too."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def log_tail(self, lines: int = 12) -> str:
        """The last lines it wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def signal_group(self, number: int) -> None:
        """Send a signal to the process and all it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def stop(self, *, timeout: float = 10.0) -> int:
        """SIGTERM, and SIGKILL for what has not ended after `timeout` seconds; returns the exit code."""
        if self.running:
            self.signal_group(signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.signal_group(signal.SIGKILL)
        code = self.process.wait()
        self.signal_group(signal.SIGKILL)
        return code


class Children:
    """The processes of one scene, ended together in the reverse order of their start, whatever happens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_all()

    def start(self, name: str, command: Sequence[str], *, env: Mapping[str, str] | None = None) -> Child:
        """Start a process that logs to `<folder>/<name>.log`."""
        child = Child(name, command, log=self.folder / f"{name}.log", env=env)
        self.started.append(child)
        return child

    def stop_all(self) -> None:
        """End all of them; a second Ctrl-C, or another signal to end, does not stop it half-way."""
        previous = {number: signal.signal(number, signal.SIG_IGN) for number in _ENDING}
        try:
            for child in reversed(self.started):
                child.stop(timeout=5.0)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def wait_until(
        self, condition: Callable[[], bool], *, what: str, timeout: float = 60.0, interval: float = 0.02
    ) -> None:
        """Poll every `interval` seconds until the condition holds.

        Raises:
            CommandError: it did not within `timeout` seconds, or a process ended meanwhile; quotes its log.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            for child in self.started:
                if not child.running:
                    code = child.process.returncode
                    raise CommandError(
                        f"{child.name} ended with exit code {code} while waiting for {what}:\n{child.log_tail()}"
                    )
            if time.monotonic() > deadline:
                tails = "\n".join(f"--- {child.name}\n{child.log_tail(5)}" for child in self.started)
                raise CommandError(f"gave up after {timeout:g} s waiting for {what}\n{tails}")
            time.sleep(interval)


def free_port(preferred: int = 0, *, host: str = "127.0.0.1") -> int:
    """`preferred` if it can be bound now, else any free port; no other process is told of the same one meanwhile.

    Below those that Linux gives to connections (32768 and above): one of these may be taken between the look and the
    use.
    """
    rolled = (random.SystemRandom().randrange(16_384, 32_000) for _ in range(_ROLLS))
    for port in (*([preferred] if preferred else []), *rolled, 0):
        found = _bindable(port, host)
        if found and _claim(found, again=port == preferred):
            return found
    raise CommandError(f"no free port on {host}")


def is_taken(port: int, *, host: str = "127.0.0.1") -> bool:
    """Whether the port cannot be bound now."""
    return not _bindable(port, host)


def _bindable(port: int, host: str) -> int:
    """The port, for 0 the one that the system gives; 0 if it cannot be bound."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return 0
        return int(probe.getsockname()[1])


# What we told somebody of, oldest first, each held by a name among abstract Unix sockets, of which the kernel gives
# each to one process and takes it back when that ends. Two demos that start together would look at 10000 both, and
# their Envoys would share it (SO_REUSEPORT), each answering half of the other's requests.
_CLAIMS: dict[int, socket.socket] = {}
_MOST_CLAIMS = 200


def _claim(port: int, *, again: bool) -> bool:
    if port in _CLAIMS:
        return again
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0fairlead-port-{port}")
    except OSError:
        claim.close()
        return False
    if not _CLAIMS:
        atexit.register(_release)
    _CLAIMS[port] = claim
    if len(_CLAIMS) > _MOST_CLAIMS:
        _CLAIMS.pop(next(iter(_CLAIMS))).close()
    return True


def _release() -> None:
    for claim in _CLAIMS.values():
        claim.close()
    _CLAIMS.clear()
