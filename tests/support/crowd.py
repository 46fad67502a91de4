"""Visitors that go through a gateway all the time, at a steady pace, and what they were answered."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from fairlead.demo.traffic import Visitor


class Crowd:
    """Visitors that ask without end; `statuses` counts the answers."""

    def __init__(self, port: int, host: str, path: str) -> None:
        self._port = port
        self._host = host
        self._path = path
        self._stop = threading.Event()
        self.statuses: Counter[int] = Counter()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(2)]

    def _run(self) -> None:
        visitor = Visitor(self._port)
        while not self._stop.is_set():
            self.statuses[visitor.ask(self._host, self._path).status] += 1
            self._stop.wait(0.004)
        visitor.close()

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, and wait for the last answers."""
        self._stop.set()
        for thread in self._threads:
            thread.join(20)


@contextmanager
def crowd(port: int, host: str, path: str = "/") -> Iterator[Crowd]:
    """Have visitors ask until the block ends."""
    made = Crowd(port, host, path)
    made.start()
    try:
        yield made
    finally:
        made.stop()
