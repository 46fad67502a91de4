"""What all tests share: the checkout's root, and where real programs are."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.processes import Children


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    """Starts programs that are gone when the test is over, whatever happened."""
    with Children(tmp_path) as started:
        yield started


@pytest.fixture(scope="session")
def fairlead_command() -> list[str]:
    """How to run our own program."""
    return [sys.executable, "-m", "fairlead"]
