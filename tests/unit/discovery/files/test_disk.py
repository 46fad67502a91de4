from __future__ import annotations

import os
from pathlib import Path

import pytest

from discovery.files import disk
from discovery.files.folder_state import MAX_BYTES, Unreadable


def names(folder: Path) -> dict[str, object]:
    return {str(Path(path).relative_to(folder)): content for path, content in disk.look([folder], {}).found.items()}


def test_config_files_of_all_visible_folders_are_found_and_nothing_else(tmp_path: Path) -> None:
    for name in ("a.yaml", "sub/b.yml", "sub/deep/c.json", "d.txt", "e.yaml~", ".f.yaml", ".git/g.yaml", "h"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert names(tmp_path) == {"a.yaml": b"a.yaml", "sub/b.yml": b"sub/b.yml", "sub/deep/c.json": b"sub/deep/c.json"}


def test_only_what_changed_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("1")
    (tmp_path / "b.yaml").write_text("1")
    first = disk.look([tmp_path], {})
    (tmp_path / "new").write_text("2")
    (tmp_path / "new").rename(tmp_path / "b.yaml")
    second = disk.look([tmp_path], first.signatures)
    assert second.found == {str(tmp_path / "a.yaml"): None, str(tmp_path / "b.yaml"): b"2"}


def test_pipes_dangling_links_and_oversized_files_are_named_and_hold_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "link.yaml").symlink_to("nowhere")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    with (tmp_path / "big.yaml").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    found = names(tmp_path)
    assert len(found) == 4
    assert all(isinstance(content, Unreadable) for content in found.values())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("1")
    (tmp_path / "a.yaml").chmod(0)
    assert isinstance(names(tmp_path)["a.yaml"], Unreadable)


def test_links_between_folders_do_not_loop(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.yaml").write_text("1")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    assert names(tmp_path) == {"sub/a.yaml": b"1"}


def test_a_folder_may_be_a_single_file_and_an_absent_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("1")
    seen = disk.look([tmp_path / "a.yaml", tmp_path / "absent", tmp_path], {})
    assert list(seen.found.values()) == [b"1"]
    assert list(seen.missing) == [str(tmp_path / "absent")]


def test_files_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "MAX_FILES", 2)
    for name in "abc":
        (tmp_path / f"{name}.yaml").write_text("1")
    seen = disk.look([tmp_path], {})
    assert len(seen.found) == 2
    assert "more than 2 files" in seen.missing[str(tmp_path)].message
