"""Requests through the gateway: one at a time, a thousand to count, or without end in the background."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import msgspec

TIMEOUT = 20.0
"""Seconds after which a request has failed: long, since the machine may have more to do than this."""
_ANSWERS = 50


class Answer(msgspec.Struct, frozen=True):
    """A response; `body` is what a sample backend says of itself, empty if it was not one that answered."""

    status: int
    body: dict[str, Any]

    @property
    def who(self) -> str:
        """The backend that answered: `reviews v1`."""
        return f"{self.body['service']} {self.body['version']}" if self.body else f"HTTP {self.status}"


class Visitor:
    """A client with a connection of its own, kept open as browsers do."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)

    def ask(self, host: str, path: str = "/", *, headers: Mapping[str, str] | None = None) -> Answer:
        """One request. Raises OSError or HTTPException when it gets no response."""
        try:
            self._connection.request("GET", path, headers={"Host": host, **(headers or {})})
            response = self._connection.getresponse()
            raw = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        body = json.loads(raw) if response.getheader("content-type") == "application/json" else {}
        return Answer(response.status, body)

    def count(self, host: str, requests: int) -> Counter[str]:
        """The versions that answered so many requests."""
        return Counter(str(self.ask(host).body.get("version", "none")) for _ in range(requests))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class Background:
    """Visitors that ask without end, in threads, while something else happens; every failure is kept."""

    def __init__(self, port: int, host: str, *, visitors: int = 2, headers: Mapping[str, str] | None = None) -> None:
        self._port = port
        self._host = host
        self._headers = headers
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(visitors)]
        self.requests = 0
        self.failures: list[str] = []
        self.instances: dict[str, float] = {}  # instance → when it answered last
        self.answers: Counter[str] = Counter()  # instance → how many good answers it gave
        self._heard: dict[str, int] = {}  # and which request that was

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * TIMEOUT)

    def _run(self) -> None:
        visitor = Visitor(self._port)
        while not self._stop.is_set():
            try:
                answer = visitor.ask(self._host, headers=self._headers)
                failure = "" if answer.status == http.client.OK else f"HTTP {answer.status}"
            except (OSError, http.client.HTTPException) as error:
                answer, failure = Answer(0, {}), f"{type(error).__name__}: {error}"
            with self._lock:
                self.requests += 1
                if failure:
                    self.failures.append(failure)
                else:
                    self.instances[answer.body["instance"]] = time.monotonic()
                    self.answers[answer.body["instance"]] += 1
                    self._heard[answer.body["instance"]] = self.requests
            time.sleep(0.001)
        visitor.close()

    def silent_for(self, instance: str) -> float:
        """Seconds since an instance last answered; 0 until others have answered so often that it would have been asked.

        Else a machine that stands still for a moment would pass for an instance that is left alone.
        """
        with self._lock:
            if self.requests - self._heard.get(instance, 0) < _ANSWERS:
                return 0.0
            return time.monotonic() - self.instances.get(instance, 0.0)

    def answered(self, instance: str) -> bool:
        """Whether an instance has answered at all."""
        with self._lock:
            return instance in self.instances
