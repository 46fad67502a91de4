"""Programs under measurement. Owns building the Go ones, starting, reading /proc and stopping; must not know xDS.

CPU and memory of a server are those of its whole process tree, read from /proc: the same instrument for both
servers.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

HERE = Path(__file__).parent
BUILD = HERE / ".build"
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class MissingProgramError(RuntimeError):
    """Something that a benchmark needs is not installed; the message says what and how to mend it."""


def build(name: str) -> Path:
    """Build one of the Go programs beside this file, if it changed, and return where it stands.

    Raises `MissingProgramError` where there is no Go, `RuntimeError` with the compiler's words where it fails.
    """
    go = shutil.which("go")
    if go is None:
        raise MissingProgramError(
            "The benchmarks' peer and simulated proxies are Go programs, and there is no `go` on the PATH. "
            "Install Go 1.26 or newer (https://go.dev/dl/, or your distribution's golang package) and run again."
        )
    BUILD.mkdir(exist_ok=True)
    target = BUILD / name
    with (BUILD / "lock").open("w") as lock:  # two runs must not write one binary at a time
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = subprocess.run(
            [go, "build", "-mod=readonly", "-buildvcs=false", "-o", str(target), f"./{name}"],
            cwd=HERE,
            capture_output=True,
            text=True,
            check=False,
        )
    if result.returncode != 0:
        raise RuntimeError(f"`go build ./{name}` in {HERE} failed:\n{result.stderr.strip()}")
    return target


class Program:
    """A running program whose standard error goes to a file; a context manager that ends it."""

    def __init__(self, command: Sequence[str | Path], log: Path) -> None:
        self.command = [str(part) for part in command]
        self.log = log
        self._offset = log.stat().st_size if log.exists() else 0
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, start_new_session=True
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def output(self) -> str:
        """What this program has printed so far."""
        return self.log.read_bytes()[self._offset :].decode(errors="replace")

    def printed(self, pattern: str, *, timeout: float) -> str:
        """Wait until the program prints a line that matches, and return the pattern's first group."""
        deadline = time.monotonic() + timeout
        while True:
            found = re.search(pattern, self.output())
            if found:
                return found.group(1)
            if self.process.poll() is not None or time.monotonic() > deadline:
                state = f"ended with {self.process.returncode}" if self.process.returncode is not None else "is silent"
                raise RuntimeError(
                    f"{' '.join(self.command)} {state}, expected /{pattern}/; its last words:\n{self.output()[-3000:]}"
                )
            time.sleep(0.01)

    def cpu_seconds(self) -> float:
        """User and system time of the process tree so far; the kernel counts in hundredths of a second."""
        total = 0
        for pid in _tree(self.process.pid):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / _TICKS

    def rss_bytes(self) -> int:
        """Resident memory of the process tree."""
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE for pid in _tree(self.process.pid))

    def settle(self, *, at_least: float = 0.5, timeout: float = 120.0) -> None:
        """Wait until the program has been idle (under 5 % of a core) for half a second."""
        deadline = time.monotonic() + timeout
        earliest = time.monotonic() + at_least
        quiet = 0
        before = self.cpu_seconds()
        while time.monotonic() < deadline:
            time.sleep(0.25)
            now = self.cpu_seconds()
            quiet = quiet + 1 if now - before <= 0.0125 else 0
            before = now
            if quiet >= 2 and time.monotonic() >= earliest:
                return
        raise RuntimeError(f"{self.command[0]} is still busy after {timeout:g} s")

    def stop(self, *, timeout: float = 20.0) -> None:
        """SIGTERM, then SIGKILL to the whole group where that is not enough."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


def _tree(pid: int) -> list[int]:
    """A process and its living descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += _tree(int(child))
    return found
