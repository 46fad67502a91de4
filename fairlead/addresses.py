"""`HOST:PORT` as people write it: `127.0.0.1:18000`, `[::1]:18000`, `control-plane.example:443`."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from fairlead.errors import UsageError


class Address(NamedTuple):
    """A host (name or IP literal, without brackets) and a port, 0 meaning "any free one" where one is bound."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. A host name counts only if it is `localhost`."""
        return self.host == "localhost" or (self.is_ip and ipaddress.ip_address(self.host).is_loopback)

    @property
    def is_ip(self) -> bool:
        """Whether the host is an IP literal, not a name to be resolved."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True


def parse_address(text: str, *, what: str) -> Address:
    """Read `HOST:PORT`; `what` names the setting or flag in the error.

    Raises:
        UsageError: the text is no address.
    """
    host, colon, port = text.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if not colon or not bare or (":" in bare and not bracketed):
        raise UsageError(f"{what}: {text!r} is not HOST:PORT. Fix: write it like 127.0.0.1:18000 or [::1]:18000")
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise UsageError(f"{what}: {port!r} in {text!r} is not a port. Fix: use a number from 0 to 65535")
    return Address(bare, int(port))
