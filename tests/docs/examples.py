"""Runs the examples of a page as a reader would: top to bottom, in one folder, each command as it stands.

A page marks what runs:

- any block with `file=NAME` is written to that file;
- a `console` block holds commands (lines that begin with `$ `, continued by a backslash) and what they print; a line
  `...` stands for any lines, `...` inside a line for anything, two or more spaces between words for any such gap;
  `exit=1` is the exit code of the last command;
- `until="TEXT"` starts the command in the background and waits until it prints TEXT; `name=serve` names it, and a
  comment `<!-- stop: serve -->` ends it (`<!-- kill: serve -->` without mercy);
- a `pycon` block is a doctest.

Anything else is for the reader's eyes. Pages name the ports that Fairlead has by default; here each of them is
exchanged for a free one, in commands, files and output alike, so that pages can be tested beside each other and beside
whatever runs on the machine.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fairlead.processes import Child, Children, free_port
from tests.docs.pages import ROOT, Block, blocks

# Every port that a page may name.
FAIRLEAD_PORTS = (8080, 18000)
ENVOY_PORTS = (9901, 10000, 10443, 15000, 15001, 15006, 15101, 15106, 15201, 15206)
BACKEND_PORTS = (9001, 9002, 9101, 9201)
PORTS = (*FAIRLEAD_PORTS, *ENVOY_PORTS, *BACKEND_PORTS)
_PORT = re.compile(rf"(?<![\d.])(?:{'|'.join(map(str, PORTS))})(?![\d])")
_PROXY = re.compile(r"\bfairlead (?:envoy|bootstrap) (gateway|sidecar|grpc)\b")
# The defaults of those two commands, which no environment variable can exchange.
_DEFAULTS = {
    "gateway": {"--xds": "127.0.0.1:18000", "--admin-port": "9901"},
    "sidecar": {
        "--xds": "127.0.0.1:18000",
        "--admin-port": "15000",
        "--ingress-port": "15006",
        "--egress-port": "15001",
    },
    "grpc": {"--xds": "127.0.0.1:18000"},
}
_TIMEOUT = 60.0


class ExampleError(AssertionError):
    """An example that does not do what its page says."""


class Scene:
    """One page's folder, ports and background programs."""

    def __init__(self, folder: Path, children: Children) -> None:
        self.folder = folder
        self._children = children
        self._names: dict[str, Child] = {}
        self._globals: dict[str, Any] = {}  # of the page's doctests, which go on where the last one ended
        self._ports = {str(port): str(free_port()) for port in PORTS}
        self._documented = {free: port for port, free in self._ports.items()}
        programs = folder.parent / "bin"
        programs.mkdir()
        shim = programs / "fairlead"
        shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m fairlead "$@"\n')
        shim.chmod(0o755)
        (folder / "envoy-configs").symlink_to(ROOT / "envoy-configs")
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD_")},
            "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "HOME": str(folder.parent),
            "XDG_STATE_HOME": str(folder.parent / "state"),
            "NO_COLOR": "1",
            "COLUMNS": "160",
            "FAIRLEAD_XDS": f"127.0.0.1:{self._ports['18000']}",
            "FAIRLEAD_API": f"127.0.0.1:{self._ports['8080']}",
            "FAIRLEAD_SERVER": f"http://127.0.0.1:{self._ports['8080']}",
            "FAIRLEAD_LOG_FORMAT": "console",
        }

    def play(self, text: str) -> int:
        """Run a page; how many blocks were run. Raises `ExampleError`."""
        count = 0
        for block in blocks(text):
            count += self._run(block)
        return count

    def _run(self, block: Block) -> bool:
        if block.language == "<!--":
            for word in ("stop", "kill"):
                if word in block.words:
                    self._end(block.words[word], kill=word == "kill")
            return False
        if "file" in block.words:
            path = self.folder / block.words["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._with_free_ports(block.text))
            return True
        if block.language == "pycon":
            self._doctest(block)
            return True
        if block.language != "console":
            return False
        for command, expected, last in _commands(block):
            if "until" in block.words:
                self._start(block, command)
            else:
                self._call(block, command, expected, int(block.words.get("exit", "0")) if last else 0)
        return True

    def _start(self, block: Block, command: str) -> None:
        name = block.words.get("name", f"line-{block.line}-{len(self._names)}")
        environment: Mapping[str, str] = self._environment
        child = self._children.start(
            f"{len(self._children.started)}-{name}",
            ["env", "-C", str(self.folder), "bash", "-c", f"exec {self._with_free_ports(_explicit(command))}"],
            env=environment,
        )
        self._names[name] = child
        wanted = self._with_free_ports(block.words["until"])
        self._children.wait_until(
            lambda: wanted in child.log.read_text(errors="replace"),
            what=f"{wanted!r} from `{command}` (line {block.line})",
            timeout=_TIMEOUT,
        )

    def _end(self, name: str, *, kill: bool) -> None:
        child = self._names.pop(name)
        if kill:
            child.process.kill()
        child.stop()
        self._children.started.remove(child)

    def _call(self, block: Block, command: str, expected: str, code: int) -> None:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", self._with_free_ports(_explicit(command))],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TIMEOUT,
            check=False,
        )
        printed = self._with_documented_ports(done.stdout.decode(errors="replace"))
        where = f"line {block.line}: $ {command}\n"
        if done.returncode != code:
            logs = "\n".join(f"--- {child.name}\n{child.log_tail(8)}" for child in self._children.started)
            raise ExampleError(f"{where}ended with {done.returncode}, not {code}, and printed:\n{printed}\n{logs}")
        if not matches(expected, printed):
            raise ExampleError(f"{where}--- the page says\n{expected}--- it printed\n{printed}")

    def _doctest(self, block: Block) -> None:
        test = doctest.DocTestParser().get_doctest(block.text, self._globals, f"line {block.line}", None, block.line)
        told: list[str] = []
        result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=told.append, clear_globs=False)
        self._globals = test.globs
        if result.failed:
            raise ExampleError("".join(told))

    def _with_free_ports(self, text: str) -> str:
        return _PORT.sub(lambda match: self._ports[match[0]], text)

    def _with_documented_ports(self, text: str) -> str:
        return re.sub(r"\d{4,5}", lambda match: self._documented.get(match[0], match[0]), text)


def matches(expected: str, printed: str) -> bool:
    """Whether what was printed is what a page says; no expectation allows anything."""
    if not expected.strip():
        return True
    parts = []
    for line in expected.splitlines():
        if line.strip() == "...":
            parts.append(r"(?:[^\n]*\n)*?")
        else:
            words = r"[^\n]*?".join(re.escape(word) for word in line.rstrip().split("..."))
            words = re.sub(r"(?<=[^ \\])(?:\\ ){2,}", "[ ]{2,}", words)
            parts.append(rf"{words}[ \t]*\n")
    text = printed if printed.endswith("\n") else printed + "\n"
    return re.fullmatch("".join(parts) + r"\n*", text) is not None


def _commands(block: Block) -> Iterator[tuple[str, str, bool]]:
    """Each command of a console block, its expected output, and whether it is the last."""
    found: list[tuple[str, str]] = []
    lines = iter(block.text.splitlines())
    for line in lines:
        if line.startswith("$ "):
            command = line[2:]
            while command.endswith("\\"):
                command = f"{command}\n{next(lines)}"
            found.append((command, ""))
        else:
            assert found, f"line {block.line}: output before any command"
            command, expected = found[-1]
            found[-1] = (command, f"{expected}{line}\n")
    for number, (command, expected) in enumerate(found, 1):
        yield command, expected, number == len(found)


def _explicit(command: str) -> str:
    """The command with the ports in its flags that it would have by default."""

    def flags(match: re.Match[str]) -> str:
        given = [f" {flag} {value}" for flag, value in _DEFAULTS[match[1]].items() if flag not in command]
        return match[0] + "".join(given)

    return _PROXY.sub(flags, command)
