"""Timeouts: an HTTPRoute rule's `timeouts` on Envoy's `RouteAction`.

Without `timeouts` there is no deadline for the whole answer, where Envoy's default of 15 s would cut downloads, gRPC
streams and long polls in the middle; a stream on which nothing moves still ends after the connection manager's idle
timeout (5 minutes). A request timeout longer than that raises the idle timeout too, or it could never be reached.
"""

from __future__ import annotations

from typing import Any

from mesh.kinds.duration import milliseconds
from mesh.kinds.httproute import HTTPRouteTimeouts

STREAM_IDLE_MILLISECONDS = 300_000


def set_timeouts(
    action: Any, timeouts: HTTPRouteTimeouts | None, *, retried: bool, otherwise: int | None = None
) -> None:
    """Fill the timeouts of a `RouteAction`. `retried`: the rule has a `retry`, whose tries take `backendRequest`.

    `otherwise`: the milliseconds of the whole request where the rule does not say, None for no limit.
    """
    whole = request_limit(timeouts)
    whole = otherwise if whole is None else whole
    one = per_try_timeout(timeouts) if not retried else None
    limits = [limit for limit in (whole, one) if limit]
    set_duration(action.timeout, min(limits, default=0))
    if whole == 0:
        set_duration(action.idle_timeout, 0)
    elif whole is not None and whole > STREAM_IDLE_MILLISECONDS:
        set_duration(action.idle_timeout, whole)


def limit_stream(action: Any) -> None:
    """Say the timeout of a `RouteAction` again in the words of proxyless gRPC, which reads no other (gRFC A31)."""
    if action.timeout.seconds or action.timeout.nanos:
        action.max_stream_duration.max_stream_duration.CopyFrom(action.timeout)


def request_limit(timeouts: HTTPRouteTimeouts | None) -> int | None:
    """Milliseconds that the whole answer may take, None or 0 for any."""
    return _milliseconds(timeouts.request) if timeouts is not None else None


def per_try_timeout(timeouts: HTTPRouteTimeouts | None) -> int | None:
    """Milliseconds that one request to a backend may take, None or 0 for any."""
    return _milliseconds(timeouts.backend_request) if timeouts is not None else None


def set_duration(duration: Any, of: int) -> None:
    """Fill a `Duration` with milliseconds; zero is written too, since it says something else than absence."""
    duration.SetInParent()
    duration.seconds, rest = divmod(of, 1000)
    duration.nanos = rest * 1_000_000


def _milliseconds(text: str | None) -> int | None:
    return None if text is None else milliseconds(text)
