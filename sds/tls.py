"""TLS contexts from certificates in memory, taken anew for each handshake: a renewed certificate closes no connection.

Python's `ssl` reads keys from files only. They are given to it in a file of memory that no other process can open and
that is gone at once; a key never touches a disk for this.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable

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


def renewing_context(current: Callable[[], KeyPair]) -> ssl.SSLContext:
    """A server's context which shows, at each handshake, the certificate of that moment."""
    first = current()
    base, latest = server_context(first), (first, server_context(first))

    def at_handshake(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        nonlocal latest
        pair = current()
        if pair != latest[0]:
            latest = pair, server_context(pair)
        connection.context = latest[1]

    base.sni_callback = at_handshake
    return base
