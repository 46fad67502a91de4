"""Addresses the server listens on: bound before anything else is done, so that a busy port costs nobody a minute."""

from __future__ import annotations

import errno
import resource
import socket

from fairlead.addresses import Address
from fairlead.errors import CommandError, oserror_words
from fairlead.settings import Settings
from xds.server.admission import Rate
from xds.server.serve import Limits

_BACKLOG = 512


def bind(address: Address, *, flag: str) -> socket.socket:
    """A listening socket.

    Raises:
        CommandError: the address is taken or is not this machine's; names the flag to change.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(where)
            bound.listen(_BACKLOG)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise cannot_listen(address, error, flag=flag) from None
    bound.setblocking(False)
    return bound


def allow_many_connections() -> None:
    """Let this process open as many files as it may: shells and containers start it with 1,024, and each proxy and each
    user of the API takes one.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def cannot_listen(address: Address, error: OSError, *, flag: str) -> CommandError:
    """What to tell of an address that could not be bound."""
    variable = "FAIRLEAD_" + flag.removeprefix("--").replace("-", "_").upper()
    if error.errno == errno.EADDRINUSE or "in use" in str(error):
        return CommandError(
            f"{address} is in use by another process. Fix: choose another address with {flag} or {variable}"
        )
    return CommandError(f"cannot listen on {address}: {oserror_words(error)}. Fix: change {flag} or {variable}")


def stream_limits(settings: Settings) -> Limits:
    """What bounds the streams of proxies."""
    per_second = settings.streams_per_second
    return Limits(
        rate=Rate(per_second=per_second, burst=max(1, round(per_second))),
        max_age=settings.stream_max_age or float("inf"),
        # A client renews at half its certificate's life, and has had a new connection long before the end of that.
        connection_age=max(1.0, settings.ca_leaf_lifetime_min / 10),
        drain=settings.drain_time,
    )
