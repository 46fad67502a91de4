"""A board on which replicas pin what the others should know: one small row each, under names of their own choosing.

For what is of use now and worthless later. It may lose rows, and tells the latest state and not each one before it.
Replicas that share a store pin it there (`discovery/stores/consul_board.py`), others in their cluster
(`discovery/kubernetes/board.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol


class BoardAwayError(Exception):
    """It cannot be read or written now; says why, and what to do where somebody must do something."""


class Board(Protocol):
    """A board. Both methods raise BoardAwayError."""

    async def write(self, changes: Mapping[str, bytes | None]) -> None:
        """Pin rows, or take them down (None); names are of letters, digits, `-` and `.`, contents are text."""

    def watch(self) -> AsyncIterator[Mapping[str, bytes]]:
        """All rows as they are, at once and after each change, until the iteration is closed or an error ends it."""
