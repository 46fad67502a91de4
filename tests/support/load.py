"""Requests without end to an address, while something else happens, counted by what came back."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from typing import Self

from tests.support.kubernetes import eventually


class Load:
    """Clients that ask without end, with kept and with new connections, and count what comes back."""

    def __init__(self, host: str, path: str = "/") -> None:
        self._host = host
        self._path = path
        self._stop = threading.Event()
        self.seen: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._ask, args=(number % 2 == 0,)) for number in range(6)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        eventually(lambda: self.seen.total() > 50, "requests to flow")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, keep: bool) -> None:
        connection = http.client.HTTPConnection(self._host, 80, timeout=30)
        while not self._stop.wait(0.003):
            try:
                connection.request("GET", self._path, headers={} if keep else {"connection": "close"})
                got = connection.getresponse()
                got.read()
                self.seen[str(got.status)] += 1
            except (OSError, http.client.HTTPException) as error:
                self.seen[f"{type(error).__name__}: {error}"] += 1
                connection.close()
        connection.close()
