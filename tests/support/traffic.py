"""Requests without end, in a thread, while something else happens; every failure is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self


class Traffic:
    """`one` makes a request and says what was wrong with it, or nothing; `pause` is in seconds, between two of them."""

    def __init__(self, one: Callable[[], str], *, pause: float) -> None:
        self._one = one
        self._pause = pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.requests = 0
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            failure = self._one()
            self.requests += 1
            if failure:
                self.failures.append(failure)
