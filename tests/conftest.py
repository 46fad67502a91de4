"""What all tests share: where the checkout is, and programs that end with the test."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.processes import Children


def pytest_configure() -> None:
    """Heed SIGINT, and so let the programs that tests start: a shell has what it starts in the background ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    """Starts programs that are gone when the test is over, whatever happened."""
    with Children(tmp_path) as started:
        yield started
