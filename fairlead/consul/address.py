"""Where an agent of Consul is, as people write it: for those that watch it and those that register there."""

from __future__ import annotations

from urllib.parse import urlsplit

from fairlead.errors import UsageError


def check_url(url: str, flag: str) -> None:
    """See that it can be an agent's address. Raises UsageError."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known or parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        raise UsageError(
            f"{flag}: {url!r} is no agent's address. Fix: write http://HOST:PORT or https://HOST:PORT, like"
            " http://127.0.0.1:8500"
        )
