"""The end of a test's event loop: nothing may be left open on it.

A connection that outlives its loop is found by the garbage collector, in whichever test runs then, and fails that one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

PATIENCE = 60.0
"""Longer than asyncio waits for TLS's goodbye."""


async def everything_is_closed() -> None:
    """Wait until the running loop has no socket but its own.

    Raises:
        AssertionError: some stay open; says what they are.
    """
    deadline = time.monotonic() + PATIENCE
    while left := _open():
        assert time.monotonic() < deadline, f"the test leaves open: {', '.join(left)}"
        await asyncio.sleep(0.01)


def _open() -> list[str]:
    loop: Any = asyncio.get_running_loop()
    own = loop._ssock.fileno()
    left = [key.data for key in list(loop._selector.get_map().values()) if key.fd != own]
    return [", ".join(repr(handle) for handle in handles if handle is not None) for handles in left]


@pytest.fixture(autouse=True)
async def nothing_left_open() -> AsyncIterator[None]:
    """For a `conftest.py`: a test that leaves a connection open fails itself, and not the one that runs when that is
    noticed.
    """
    yield
    await everything_is_closed()
