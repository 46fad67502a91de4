"""The watching shell on a real disk; what follows from what it sees is tested in `test_folder_state`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import watchfiles

from discovery.files import folder, folder_state
from discovery.files.folder import FilesSource
from mesh.model import DeclaredKey

DEADLINE = 20.0


def subset(name: str, version: str = "v1") -> str:
    return (
        f"apiVersion: fairlead.dev/v1alpha1\nkind: ServiceSubset\nmetadata: {{name: {name}}}\n"
        f"spec: {{service: reviews, labels: {{version: {version}}}}}\n"
    )


class Follower:
    """Applies a source's batches, and waits until they show something."""

    def __init__(self, source: FilesSource) -> None:
        self.source = source
        self.versions: dict[str, str] = {}
        self.history: list[dict[str, str]] = []
        self._news = asyncio.Condition()

    async def follow(self) -> None:
        async with contextlib.aclosing(self.source.batches()) as batches:
            async for batch in batches:
                for change in batch:
                    assert isinstance(change.key, DeclaredKey)
                    if change.row is None:
                        del self.versions[change.key.name]
                    else:
                        self.versions[change.key.name] = change.row.object.spec.labels["version"]
                async with self._news:
                    self.history.append(dict(self.versions))
                    self._news.notify_all()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE), self._news:
            await self._news.wait_for(holds)


@contextlib.asynccontextmanager
async def following(*folders: Path) -> AsyncIterator[Follower]:
    follower = Follower(FilesSource(folders))
    task = asyncio.get_running_loop().create_task(follower.follow())
    try:
        await follower.until(lambda: bool(follower.history))
        yield follower
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_the_first_batch_is_everything_and_may_be_empty(tmp_path: Path) -> None:
    async with following(tmp_path) as seen:
        assert seen.history == [{}]
    (tmp_path / "a.yaml").write_text(subset("x"))
    async with following(tmp_path) as seen:
        assert seen.history == [{"x": "v1"}]


async def test_files_come_change_by_atomic_rename_and_go(tmp_path: Path) -> None:
    async with following(tmp_path) as seen:
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "a.yaml").write_text(subset("x"))
        await seen.until(lambda: seen.versions == {"x": "v1"})
        (tmp_path / "new").write_text(subset("x", "v2"))
        (tmp_path / "new").rename(tmp_path / "sub" / "a.yaml")
        await seen.until(lambda: seen.versions == {"x": "v2"})
        (tmp_path / "sub" / "a.yaml").unlink()
        await seen.until(lambda: seen.versions == {})


async def test_a_broken_file_keeps_its_last_good_and_tells_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(subset("x"))
    async with following(tmp_path) as seen:
        path.write_text(subset("x", "v2") + "---\nkind: [")
        await seen.until(lambda: bool(seen.source.problems))
        assert seen.versions == {"x": "v1"}
        (problem,) = seen.source.problems
        assert (problem.file, problem.line) == (str(path), 6)
        path.write_text(subset("x", "v2"))
        await seen.until(lambda: seen.versions == {"x": "v2"} and not seen.source.problems)


async def test_a_volume_of_kubernetes_is_swapped_as_one(tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        (tmp_path / f"..{version}").mkdir()
        for name in ("x", "y"):
            (tmp_path / f"..{version}" / f"{name}.yaml").write_text(subset(name, version))
    (tmp_path / "..data").symlink_to("..v1")
    for name in ("x", "y"):
        (tmp_path / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
    async with following(tmp_path) as seen:
        assert seen.versions == {"x": "v1", "y": "v1"}
        (tmp_path / "..tmp").symlink_to("..v2")
        (tmp_path / "..tmp").rename(tmp_path / "..data")
        await seen.until(lambda: seen.versions == {"x": "v2", "y": "v2"})
        assert {"x": "v1", "y": "v2"} not in seen.history
        assert {"x": "v2", "y": "v1"} not in seen.history


async def test_a_file_that_an_editor_removes_and_puts_back_is_never_gone(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(subset("x"))
    async with following(tmp_path) as seen:
        path.rename(tmp_path / "a.yaml~")
        await asyncio.sleep(folder.REMOVAL_SECONDS / 4)  # an editor at work, not a wait for us
        path.write_text(subset("x", "v2"))
        await seen.until(lambda: seen.versions == {"x": "v2"})
        assert {} not in seen.history


async def test_a_file_that_is_saved_in_place_is_never_seen_empty_or_half(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(subset("x") + "---\n" + subset("y"))
    async with following(tmp_path) as seen:
        with path.open("w") as file:
            await asyncio.sleep(0.1)  # an editor at work, not a wait for us
            file.write(subset("x", "v2") + "---\n")
            file.flush()
            await asyncio.sleep(0.1)
            file.write(subset("y", "v2"))
        await seen.until(lambda: seen.versions == {"x": "v2", "y": "v2"})
        assert all(set(state) == {"x", "y"} for state in seen.history)


async def test_an_object_taken_out_of_a_file_goes_by_itself_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_state, "TELL_SECONDS", 0.1)  # long before it settles, or a busy machine tells of nothing
    path = tmp_path / "a.yaml"
    path.write_text(subset("x") + "---\n" + subset("y"))
    async with following(tmp_path) as seen:
        path.write_text(subset("y"))
        await seen.until(lambda: bool(seen.source.problems))
        assert set(seen.versions) == {"x", "y"}
        await seen.until(lambda: seen.versions == {"y": "v1"})
        assert seen.source.problems == ()


async def test_a_folder_that_vanishes_keeps_what_it_declared_and_a_new_one_in_its_place_is_seen(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.mkdir()
    (config / "a.yaml").write_text(subset("x"))
    async with following(config) as seen:
        config.rename(tmp_path / "old")
        await seen.until(lambda: bool(seen.source.problems))
        assert seen.versions == {"x": "v1"}
        config.mkdir()
        (config / "a.yaml").write_text(subset("x", "v2"))
        await seen.until(lambda: seen.versions == {"x": "v2"} and not seen.source.problems)


async def test_a_folder_may_come_to_life_later(tmp_path: Path) -> None:
    async with following(tmp_path / "later") as seen:
        assert [problem.code for problem in seen.source.problems] == ["UnreadableFolder"]
        (tmp_path / "later").mkdir()
        (tmp_path / "later" / "a.yaml").write_text(subset("x"))
        await seen.until(lambda: seen.versions == {"x": "v1"})


async def test_without_inotify_looking_once_in_a_while_must_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> AsyncIterator[object]:
        raise OSError(24, "inotify instances are used up")

    monkeypatch.setattr(watchfiles, "awatch", exhausted)
    monkeypatch.setattr(folder, "POLL_SECONDS", 0.05)
    async with following(tmp_path) as seen:
        (tmp_path / "a.yaml").write_text(subset("x"))
        await seen.until(lambda: seen.versions == {"x": "v1"})
