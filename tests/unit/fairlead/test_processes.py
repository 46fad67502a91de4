from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fairlead.errors import CommandError
from fairlead.processes import Children, free_port

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


def test_a_child_that_ends_while_it_is_waited_for_is_told_with_its_last_words(children: Children) -> None:
    children.start("speaker", [sys.executable, "-c", "print('last words'); raise SystemExit(7)"])
    with pytest.raises(CommandError, match=r"(?s)speaker ended with exit code 7 while waiting for news.*last words"):
        children.wait_until(lambda: False, what="news")


def test_waiting_ends(children: Children) -> None:
    with pytest.raises(CommandError, match=r"gave up after 0\.05 s waiting for ever"):
        children.wait_until(lambda: False, what="ever", timeout=0.05)


def test_children_of_children_end_too(tmp_path: Path) -> None:
    script = (
        "import subprocess, time; c = subprocess.Popen(['sleep', '600']); print(c.pid, flush=True); time.sleep(600)"
    )
    with Children(tmp_path) as children:
        parent = children.start("parent", [sys.executable, "-c", script])
        children.wait_until(lambda: "\n" in parent.log.read_text(), what="the grandchild")
        grandchild = int(parent.log.read_text())
        assert _alive(grandchild)
    with Children(tmp_path) as waiting:
        waiting.wait_until(lambda: not _alive(grandchild), what="the grandchild to end")


def test_no_child_outlives_a_killed_parent(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from fairlead.processes import Children\n"
        f"child = Children(Path({str(tmp_path)!r})).start('sleeper', {SLEEPER!r})\n"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert _alive(child)
    parent.kill()
    parent.communicate()
    with Children(tmp_path) as waiting:
        waiting.wait_until(lambda: not _alive(child), what="the child to be killed by the kernel")


def test_a_busy_port_is_not_chosen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert free_port(port) not in (0, port)
    assert free_port(port) == port


def test_a_port_that_another_process_was_told_of_is_not_chosen_though_nobody_listens_there_yet() -> None:
    script = "from fairlead.processes import free_port; print(free_port(), flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        assert free_port(port) not in (0, port)
        other.communicate("\n")
    assert free_port(port) == port


def test_a_free_port_is_none_that_the_system_gives_to_connections() -> None:
    assert all(16_384 <= free_port() < 32_000 for _ in range(20))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, FileNotFoundError):
        return False
