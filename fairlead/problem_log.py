"""What is wrong in the sources and in what is made of them, said in the log: each problem once when it appears, each
place once when it is mended.

Who watches the log of a server must see that a file was not taken, and why. A program that writes broken files all day
must not fill the disk with that, so lines are bounded; what is wrong at present is always at `fairlead problems`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Final

from api.ports import SourceProblem
from mesh.tables import Fault

# As many lines in as many seconds, then a last one that says where the rest is.
_LINES: Final = 20
_SECONDS: Final = 10.0

_log = logging.getLogger(__name__)


class ProblemLog:
    """`clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: frozenset[SourceProblem] = frozenset()
        self._window = float("-inf")
        self._lines = 0

    def note(self, problems: Iterable[SourceProblem]) -> None:
        """Take what is wrong at present, of all sources."""
        present = frozenset(problems)
        if present == self._known:
            return
        before, self._known = self._known, present
        for found in sorted(present - before, key=_order):
            self._say(logging.WARNING, _words(found))
        for place in sorted({_place(found) for found in before} - {_place(found) for found in present}):
            self._say(logging.INFO, f"{place}: mended")

    def _say(self, level: int, line: str) -> None:
        now = self._clock()
        if now - self._window >= _SECONDS:
            self._window, self._lines = now, 0
        self._lines += 1
        if self._lines <= _LINES:
            _log.log(level, "%s", line)
        elif self._lines == _LINES + 1:
            _log.warning(
                "more than %d problems in %g s are not logged one by one: `fairlead problems` shows all that are left",
                _LINES,
                _SECONDS,
            )


class FaultLog:
    """Says of each row of the model that failed to derive that it did, once."""

    def __init__(self) -> None:
        self._known: Mapping[tuple[str, Hashable], Fault] = {}

    def note(self, faults: Mapping[tuple[str, Hashable], Fault]) -> None:
        """Take what cannot be derived at present."""
        for at, fault in faults.items():
            if self._known.get(at) != fault:
                _log.error(
                    "%s %s cannot be derived; its last good value stands: %s", fault.table, fault.key, fault.error
                )
        self._known = dict(faults)


def _words(found: SourceProblem) -> str:
    return str(found.problem) if found.problem.file else f"{found.source}: {found.problem}"


def _place(found: SourceProblem) -> str:
    """What is mended as a whole: a file, or a source that has none."""
    return found.problem.file or found.source


def _order(found: SourceProblem) -> tuple[str, str, int, str]:
    return found.source, found.problem.file, found.problem.line, str(found.problem)
