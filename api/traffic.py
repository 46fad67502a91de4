"""Counts of the API's own requests, as plain numbers; the program puts them on the metrics page."""

from __future__ import annotations

from collections import Counter

# Any other method counts as "other": a client must not be able to make label values.
_METHODS = frozenset({"GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS"})


class Traffic:
    """`requests` by (method, path template, status); `seconds` they took together, by (method, path template)."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.seconds: dict[tuple[str, str], float] = {}

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Note an answered request; `route` is the template (`/api/v1/proxies/{node}`), not the path."""
        method = method if method in _METHODS else "other"
        self.requests[method, route, status] += 1
        self.seconds[method, route] = self.seconds.get((method, route), 0.0) + seconds
