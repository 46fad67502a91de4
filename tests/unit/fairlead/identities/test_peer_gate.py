"""Who may come through a Unix socket: told by the kernel, not by the peer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fairlead.identities.peer_gate import PeerGate

MINE = os.getuid()
STRANGER, FRIEND = 54_321, 54_322
CONNECT = """
import os, socket, sys
os.setgid(int(sys.argv[2])), os.setuid(int(sys.argv[2]))
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
connection.sendall(b"hello")
sys.stdout.write(connection.recv(100).decode())
"""


@asynccontextmanager
async def gate(path: Path, *allowed: int) -> AsyncIterator[PeerGate]:
    """A gate before a server that says everything twice."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100_000):
            writer.write(data * 2)
            await writer.drain()
        writer.close()

    made = PeerGate(path, frozenset(allowed))
    async with await asyncio.start_unix_server(echo, made.inner):
        await made.start()
        try:
            yield made
        finally:
            await made.stop()


async def ask(path: Path, said: bytes = b"hello") -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(said)
        writer.write_eof()
        return await reader.read()
    finally:
        writer.close()


def reachable(folder: Path) -> Path:
    """The folder, which other users can now enter."""
    for each in (folder, *folder.parents):
        if each.stat().st_uid == MINE and each != Path("/"):
            each.chmod(each.stat().st_mode | 0o111)
    return folder


async def as_user(uid: int, path: Path) -> tuple[int, str]:
    """What another user hears."""
    command = [sys.executable, "-ISc", CONNECT, str(path), str(uid)]
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    return ended.returncode, ended.stdout


async def test_who_may_come_is_handed_over_whole(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with gate(path, MINE) as made:
        assert await ask(path) == b"hellohello"
        large = os.urandom(3_000_000)
        assert len(await ask(path, large)) == 2 * len(large)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(made.inner.parent.stat().st_mode) == 0o700
        inner = made.inner
    assert not path.exists()
    assert not inner.exists()


async def test_it_needs_no_folder_but_that_of_the_socket_unless_its_path_is_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="g") as short:
        with monkeypatch.context() as patch:
            patch.setattr(tempfile, "tempdir", "/nowhere")  # as in a pod whose file system is read-only
            async with gate(Path(short) / "s", MINE):
                assert await ask(Path(short) / "s") == b"hellohello"
        assert os.listdir(short) == []
        deep = Path(short) / ("d" * 80)
        deep.mkdir()
        async with gate(deep / "s", MINE) as made:
            assert await ask(deep / "s") == b"hellohello"
            assert not made.inner.is_relative_to(deep)


async def test_who_may_not_hears_nothing_even_as_the_user_that_runs_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s"
    async with gate(path, MINE + 1):
        for _ in range(5):
            try:
                heard = await ask(path)
            except OSError:
                heard = b""
            assert heard == b""
    told = [record.message for record in caplog.records if "may not ask" in record.message]
    assert len(told) == 1
    assert f"user {MINE} (process {os.getpid()})" in told[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_of_other_users_only_those_named_come_in(tmp_path: Path) -> None:
    path = reachable(tmp_path) / "s"
    async with gate(path, FRIEND):
        assert await as_user(FRIEND, path) == (0, "hellohello")
        assert (await as_user(STRANGER, path))[1] == ""
        with contextlib.suppress(OSError):
            assert await ask(path) == b""  # root, which can open everything, is asked too


async def test_a_server_that_is_gone_ends_connections_and_not_the_gate(tmp_path: Path) -> None:
    path = tmp_path / "s"
    made = PeerGate(path, frozenset({MINE}))
    await made.start()
    try:
        for _ in range(2):
            try:
                heard = await ask(path)
            except OSError:
                heard = b""
            assert heard == b""
    finally:
        await made.stop()


KILLED = """
import os, pathlib, signal, socket, sys
from fairlead.identities.peer_gate import PeerGate
gate = PeerGate(pathlib.Path(sys.argv[1]), frozenset())
socket.socket(socket.AF_UNIX).bind(str(gate.inner))
os.utime(gate.inner.parent, (0, 0))
os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_what_killed_agents_left_is_removed_and_nothing_of_living_ones(tmp_path: Path) -> None:
    async with gate(tmp_path / "one.sock", MINE) as living:
        starting, file = tmp_path / ".agent-starting", tmp_path / ".agent-file"
        starting.mkdir()
        file.write_text("of somebody else")
        for old in (living.inner.parent, file):
            os.utime(old, (0, 0))
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", KILLED, str(tmp_path / "two.sock")], check=False)
        assert len(folders(tmp_path)) == 4
        async with gate(tmp_path / "two.sock", MINE) as another:
            assert folders(tmp_path) == {starting, file, living.inner.parent, another.inner.parent}
            assert await ask(tmp_path / "one.sock") == b"hellohello"
    assert folders(tmp_path) == {starting, file}


def folders(where: Path) -> set[Path]:
    return set(where.glob(".agent-*"))
