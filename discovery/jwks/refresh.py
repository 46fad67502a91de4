"""When to look for keys again: as often as the settings say, sooner after a failure, never all at once.

`luck` is a number from 0 to 1, so that this reads no random source.
"""

from __future__ import annotations

from typing import Final

FIRST_RETRY: Final = 1.0
_SPREAD: Final = 0.2


def pause(*, refresh: float, failures: int, luck: float) -> float:
    """Seconds until the next look: at most `refresh`, a fifth of it less by luck; after failures 1, 2, 4 …"""
    wanted = refresh if not failures else min(refresh, FIRST_RETRY * 2.0 ** min(failures - 1, 20))
    return wanted * (1 - _SPREAD * luck)
