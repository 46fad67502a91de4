"""Clients' certificates that nobody has judged: no backend is told what they say.

At a port with `AllowInsecureFallback` a client may show any certificate, one that it made itself too, and Envoy fills
its names into headers as it does those of any other. What the client wrote there itself is taken off instead.
"""

from __future__ import annotations

import msgspec

from mesh.kinds.routepolicy import PolicyHeaders
from mesh.listeners import GatewayListener

WHY = "AllowInsecureFallback lets clients in whatever their certificates say"
_COMMANDS = "%DOWNSTREAM_PEER_"


def is_unjudged(listener: GatewayListener) -> bool:
    """Whether clients of a listener may show any certificate."""
    return listener.clients is not None and listener.clients.insecure


def claims(headers: PolicyHeaders | None) -> tuple[str, ...]:
    """The names of the headers that tell of clients' certificates, sorted."""
    given = (*headers.set, *headers.add) if headers is not None else ()
    return tuple(sorted({one.name.lower() for one in given if _COMMANDS in one.value}))


def without_claims(headers: PolicyHeaders) -> PolicyHeaders:
    """The same headers, and those taken off that tell of clients' certificates."""
    names = claims(headers)
    if not names:
        return headers
    return msgspec.structs.replace(
        headers,
        set=tuple(one for one in headers.set if _COMMANDS not in one.value),
        add=tuple(one for one in headers.add if _COMMANDS not in one.value),
        remove=(*headers.remove, *(name for name in names if name not in headers.remove)),
    )
