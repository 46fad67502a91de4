"""What the program asks of everything that writes input tables."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from mesh.problems import Problem
from mesh.tables import Change


class Source(Protocol):
    """A platform, as batches of changes."""

    @property
    def name(self) -> str:
        """The `source` in the keys of its rows: `files`, `store`, `kubernetes:<cluster>`."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong at present with what this source reads; empty when all is well."""

    def batches(self) -> AsyncIterator[tuple[Change, ...]]:
        """Yield changes, each batch to be committed as one, until cancelled.

        The first batch is everything there is, and may be empty: with it the source has synced. Later batches may be
        empty too, when only `problems` changed.
        """
