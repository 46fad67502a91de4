"""How many new streams are let in at once: after a restart all proxies come back in the same second.

A token bucket: streams beyond the burst wait their turn in order, and those that would wait too long are told to come
back. Proxies retry with growing, jittered delays, so a refusal spreads the load; a long wait would not.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_second` new streams after a first `burst`; nobody waits longer than `patience` seconds."""

    per_second: float = 500.0
    burst: int = 500
    patience: float = 5.0


class Admission:
    """The bucket. `wait` is pure arithmetic on the time it is given; the caller does the waiting."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        # When the bucket will be full again: one number instead of a level and the time it was taken.
        self._full_at = 0.0

    def wait(self, now: float) -> float | None:
        """Seconds until a stream that arrives now may go on; None if that is too long, and it is not counted."""
        cost = 1.0 / self._rate.per_second
        full_at = max(self._full_at, now) + cost
        wait = full_at - now - self._rate.burst * cost
        if wait > self._rate.patience:
            return None
        self._full_at = full_at
        return max(0.0, wait)
