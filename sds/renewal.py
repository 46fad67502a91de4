"""When a certificate is renewed: at half its life, give or take a tenth of it, so that many do not come at once."""

from __future__ import annotations

import datetime as dt
from typing import Final

HALF: Final = 0.5
SPREAD: Final = 0.1
# Between attempts while the authority is away: doubles, and leaves many of them before the certificate ends.
_FIRST_RETRY: Final = 1.0
_RETRIES_IN_WHAT_IS_LEFT: Final = 20


def renew_at(issued_at: dt.datetime, not_after: dt.datetime, *, draw: float) -> dt.datetime:
    """When to ask for the next one: between 40 % and 60 % of its life. `draw` is random, from 0 to 1, drawn once.

    `issued_at` is when its holder got it, by the holder's clock, and not its `not_before`: that lies in the past, and
    of a short life more of it than is left.
    """
    share = HALF + SPREAD * (2.0 * min(max(draw, 0.0), 1.0) - 1.0)
    return issued_at + (not_after - issued_at) * share


def retry_after(attempts: int, *, left: dt.timedelta, draw: float) -> dt.timedelta:
    """How long to wait after the `attempts`-th failure (1, 2, …), with `left` until the certificate ends.

    Doubles from a second, is at most a twentieth of what is left, and never less than half a second. `draw` as above.
    """
    most = max(left.total_seconds() / _RETRIES_IN_WHAT_IS_LEFT, 1.0)
    pause = min(_FIRST_RETRY * 2.0 ** min(attempts - 1, 16), most)
    return dt.timedelta(seconds=pause * (0.5 + 0.5 * min(max(draw, 0.0), 1.0)))
