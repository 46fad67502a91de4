"""TCP keepalive: what the kernel takes. It refuses more, and Envoy then closes every connection it opens."""

from __future__ import annotations

from mesh.kinds.duration import milliseconds
from mesh.kinds.trafficpolicy import TCPKeepalive
from mesh.problems import Report
from mesh.validations.durations import check_whole_seconds

_LONGEST_SECONDS = 32_767  # Linux: MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL


def check_tcp_keepalive(keepalive: TCPKeepalive | None, path: str, report: Report) -> None:
    """Whole seconds, and no more than a socket can be told."""
    if keepalive is None:
        return
    for name in ("time", "interval"):
        duration, at = getattr(keepalive, name), f"{path}.{name}"
        if duration is not None and milliseconds(duration) > _LONGEST_SECONDS * 1000:
            report.error("OutOfRange", at, "Linux counts no further than 32767s", "write at most `32767s`")
        else:
            check_whole_seconds(duration, at, report)
