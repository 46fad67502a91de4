"""What the server counts, as plain numbers: whoever exports metrics reads them here, and nothing here knows how."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Final

# Upper bounds of the event-to-ACK histogram in seconds; the last bucket is open.
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Histogram:
    """Counts per bucket (not cumulative), and the sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self.counts)


class Telemetry:
    """The counters of one server. Counters by type are keyed by type URL; everything else by what its comment says."""

    def __init__(self) -> None:
        self.responses: Counter[str] = Counter()
        self.resources: Counter[str] = Counter()
        self.bytes_sent: Counter[str] = Counter()
        self.acks: Counter[str] = Counter()
        self.nacks: Counter[str] = Counter()
        # Streams ended, by reason: closed (by the client), aged, drained, stuck, refused, error.
        self.streams_ended: Counter[str] = Counter()
        # Streams not admitted, by reason: not_ready, busy, unauthenticated, unreviewed, invalid.
        self.streams_refused: Counter[str] = Counter()
        # Resources kept from an older Envoy, by (version, type URL).
        self.left_out: Counter[tuple[str, str]] = Counter()
        self.streams = 0
        self.publications = 0
        self.fan_outs = 0
        self.fan_out_seconds = 0.0
        # Age of the oldest change that was published and not yet handed to the streams, in seconds.
        self.lag_seconds = 0.0
        # From an event at its source (or its publication) until a proxy's ACK; by type URL.
        self.event_to_ack: dict[str, Histogram] = {}

    def observe_ack(self, type_url: str, seconds: float) -> None:
        """Count the time from a change to an ACK of it."""
        histogram = self.event_to_ack.get(type_url)
        if histogram is None:
            histogram = self.event_to_ack[type_url] = Histogram()
        histogram.observe(seconds)
