"""Hostnames as Gateway API means them: exact, or a wildcard in the first label, or none (empty: any host).

A wildcard stands for one or more labels: `*.example.com` covers `a.b.example.com`, and not `example.com`.
"""

from __future__ import annotations

from collections.abc import Iterator

ANY = ""


def covers(pattern: str, host: str) -> bool:
    """Whether every host that `host` (exact or wildcard) means is also meant by `pattern`."""
    if pattern in (ANY, host):
        return True
    if not pattern.startswith("*."):
        return False
    return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1


def wider(hostname: str) -> Iterator[str]:
    """All that cover a hostname: itself, the wildcards around it, and any host."""
    yield hostname
    rest = hostname.removeprefix("*.")
    while rest := rest.partition(".")[2]:
        yield f"*.{rest}"
    if hostname != ANY:
        yield ANY


def intersection(one: str, other: str) -> str | None:
    """The narrower of two hostnames where one covers the other, None where no host is meant by both."""
    if covers(one, other):
        return other
    return one if covers(other, one) else None


def specificity(hostname: str) -> tuple[int, int, str]:
    """Sort key, the most specific hostname first: exact, then wildcards with more labels, then any."""
    if hostname == ANY:
        return 2, 0, ""
    if hostname.startswith("*."):
        return 1, -hostname.count("."), hostname
    return 0, 0, hostname


def best(patterns: tuple[str, ...], host: str) -> str | None:
    """Which of several hostnames a request for `host` belongs to: the most specific one, without fall-through."""
    return min((pattern for pattern in patterns if covers(pattern, host)), key=specificity, default=None)
