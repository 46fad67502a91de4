"""How the server's process uses memory: what the cycle collector looks at, and what goes back to the system.

The rows of the model hold no cycles, and reference counts free what is replaced; all that the collector finds in them
is work: 200 ms at a time once 200 proxies are there, in the middle of a push. So rows are put out of its sight when
there are many new ones, and it looks for cycles among the short-lived things that requests leave behind, less often.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
from collections.abc import Callable, Iterator

# Allocations before the youngest are looked at, and rounds before the older ones are (Python's own: 700, 10, 10). A
# round among 5,000 takes 1 ms; with 700 rounds cost 7 % of the CPU of a push to 200 proxies.
_THRESHOLDS = (5_000, 10, 50)
_TRIM_SECONDS = 0.5
# Bytes sent that make a burst, and in `_TRIM_SECONDS` after its end at most: 200 proxies with 1,000 clusters each get
# 244 MB when they come.
_BURST = 32_000_000
_QUIET = 1_000_000


def tune() -> None:
    """Set the collector for a server."""
    gc.set_threshold(*_THRESHOLDS)


def freeze() -> None:
    """Put everything that is there out of the collector's sight, after a look at what is young."""
    gc.collect(1)
    gc.freeze()


@contextlib.contextmanager
def deriving() -> Iterator[None]:
    """While rows are made, which are no cycles: look for none."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextlib.contextmanager
def adding() -> Iterator[None]:
    """While much is added and nothing thrown away: collect nothing, and freeze the result."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        # Not looked at before, which takes half a second for 8,000 objects.
        gc.freeze()


class Bursts:
    """Tells when a burst of sending is over, from the total of bytes sent, told every `_TRIM_SECONDS`."""

    def __init__(self, sent: int) -> None:
        self._last = self._settled = sent

    def over(self, sent: int) -> bool:
        """Whether a burst is over since the last time that this was asked."""
        quiet = sent - self._last < _QUIET
        self._last = sent
        if not quiet or sent - self._settled <= _BURST:
            return False
        self._settled = sent
        return True


async def trim_after_bursts(bytes_sent: Callable[[], int]) -> None:
    """Give pages back to the system once a burst of large messages is over, without end.

    The C library keeps what messages leave behind in its heap: without this a proxy costs up to 350 kB, with it 120.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return  # another C library than glibc, with habits of its own
    bursts = Bursts(bytes_sent())
    while True:
        await asyncio.sleep(_TRIM_SECONDS)
        if bursts.over(bytes_sent()):
            trim(0)
