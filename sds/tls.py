"""TLS contexts from certificates in memory, taken anew for each handshake: a renewed certificate closes no connection.

Python's `ssl` reads keys from files only. They are given to it in a file of memory that no other process can open and
that is gone at once; a key never touches a disk for this.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from typing import Any

from mesh.certificates import KeyPair


def server_context(pair: KeyPair) -> ssl.SSLContext:
    """A server's context with one certificate. Clients are not asked for theirs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load(context, pair)
    return context


def load(context: ssl.SSLContext, pair: KeyPair) -> None:
    """Give a context a certificate and its key."""
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        content = memoryview(pair.key.pem + b"\n" + pair.chain)
        while content:
            content = content[os.write(descriptor, content) :]
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


class _Renewing(ssl.SSLContext):
    """Makes each connection with the context of the moment. Has no certificate itself."""

    current: Callable[[], KeyPair]
    latest: tuple[KeyPair, ssl.SSLContext]

    def wrap_bio(self, *arguments: Any, **more: Any) -> ssl.SSLObject:
        """A connection, as asyncio asks for it."""
        pair = self.current()
        if pair != self.latest[0]:
            self.latest = pair, server_context(pair)
        return self.latest[1].wrap_bio(*arguments, **more)


def renewing_context(current: Callable[[], KeyPair]) -> ssl.SSLContext:
    """A server's context for asyncio which shows, at each handshake, the certificate of that moment.

    Each certificate has a context, and so tickets, of its own. With one for all (as a callback at the handshake would
    have it) clients resume sessions across renewals: Envoy then judges the certificate that the session began with,
    finds that it has ended, and fails without trying a new handshake.
    """
    context = _Renewing(ssl.PROTOCOL_TLS_SERVER)
    first = current()
    context.current, context.latest = current, (first, server_context(first))
    return context
