"""Tests of the pages in a real browser. They are skipped where there is no Chromium, but not in CI."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.processes import Children
from tests.support.browser import NAMES, Browser, find_browser


@pytest.fixture(scope="session")
def program() -> Path:
    """The browser's program."""
    found = find_browser()
    if found is None:
        said = f"there is no browser on PATH ({', '.join(NAMES)}): apt-get install chromium"
        if os.environ.get("CI", "").lower() not in ("", "0", "false"):
            pytest.fail(said, pytrace=False)
        pytest.skip(said)
    return found


@pytest.fixture(scope="module")
def browser(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser for the tests of one file."""
    with Browser(program, tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Children]:
    """Starts programs for the tests of one file."""
    with Children(tmp_path_factory.mktemp("programs")) as started:
        yield started
