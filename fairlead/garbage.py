"""Keeps Python's cycle collector away from what lives long.

The rows of the model hold no cycles, and reference counts free what is replaced; all that the collector finds in them
is work: 200 ms at a time once 200 proxies are there, in the middle of a push. So rows are put out of its sight when
there are many new ones, and it looks for cycles among the short-lived things that requests leave behind, less often.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

# Allocations before the youngest are looked at, and rounds before the older ones are (Python's own: 700, 10, 10). A
# round among 5,000 takes 1 ms; with 700 rounds cost 7 % of the CPU of a push to 200 proxies.
_THRESHOLDS = (5_000, 10, 50)


def tune() -> None:
    """Set the collector for a server."""
    gc.set_threshold(*_THRESHOLDS)


def freeze() -> None:
    """Put everything that is there out of the collector's sight, after a look at what is young."""
    gc.collect(1)
    gc.freeze()


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
