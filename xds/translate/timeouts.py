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


def set_timeouts(action: Any, whole: int | None, one: int | None = None) -> None:
    """Fill the timeouts of a `RouteAction`, in milliseconds, None or 0 for no limit.

    `whole` is that of the request, `one` of the only try that it has.
    """
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
    return milliseconds(timeouts.request) if timeouts is not None and timeouts.request is not None else None


def set_duration(duration: Any, of: int) -> None:
    """Fill a `Duration` with milliseconds; zero is written too, since it says something else than absence."""
    duration.SetInParent()
    duration.seconds, rest = divmod(of, 1000)
    duration.nanos = rest * 1_000_000
