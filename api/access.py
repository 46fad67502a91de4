"""Who may use the API: tokens with a role, or anybody on this machine.

Pure. Tokens are kept as hashes only and compared in constant time. Without tokens the API may listen on loopback
alone, and then a request must name a loopback host: a web page that rebinds its name to 127.0.0.1 (DNS rebinding)
cannot pretend to be a local program.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from typing import Literal, get_args

import msgspec

from mesh.problems import shown

Role = Literal["read", "write"]
MIN_TOKEN_LENGTH = 16


class AccessError(ValueError):
    """Settings that would leave the door open, or tokens that cannot be read; the text says how to mend it."""


class Token(msgspec.Struct, frozen=True):
    """A token's holder, role, and SHA-256."""

    name: str
    role: Role
    digest: bytes


class Access(msgspec.Struct, frozen=True):
    """The rule of the door. No tokens: open, to requests that name one of `hosts` or a loopback address."""

    tokens: tuple[Token, ...] = ()
    hosts: tuple[str, ...] = ("localhost",)

    @property
    def open(self) -> bool:
        """Whether no token is asked for."""
        return not self.tokens

    def holder(self, authorization: str) -> Token | None:
        """The token that an Authorization header carries, None for any other header."""
        scheme, _, secret = authorization.partition(" ")
        digest = _digest(secret.strip())
        found = None
        for token in self.tokens:  # all of them, always: the time taken says nothing
            if hmac.compare_digest(token.digest, digest) and scheme.lower() == "bearer":
                found = token
        return found

    def host_allowed(self, header: str) -> bool:
        """Whether a Host header names this machine as a local program would."""
        host = _without_port(header.lower())
        return host in self.hosts or _is_loopback(host)


def tokens(text: str, *, where: str) -> tuple[Token, ...]:
    """The tokens of `FAIRLEAD_API_TOKENS` or a token file: `name:role:token`, one a line, `#` starts a comment line.

    Raises AccessError, which names the line and never shows the token.
    """
    found: list[Token] = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        role, _, secret = rest.partition(":")
        if role not in get_args(Role) or not name or any(char.isspace() for char in line):
            raise AccessError(f"{where}:{number}: a token must stand as name:role:token, with role read or write.")
        if len(secret) < MIN_TOKEN_LENGTH:
            raise AccessError(
                f"{where}:{number}: the token of {shown(name)!r} is shorter than {MIN_TOKEN_LENGTH} characters. "
                "Make one with `openssl rand -hex 32`."
            )
        found.append(Token(name, "read" if role == "read" else "write", _digest(secret)))
    if len({token.digest for token in found}) < len(found):
        raise AccessError(f"{where}: two tokens are the same. Give each holder a token of their own.")
    return tuple(found)


def check_binding(host: str, access: Access) -> None:
    """Raise AccessError when the API would be open to other machines."""
    if access.open and not (host == "localhost" or _is_loopback(host)):
        raise AccessError(
            f"The API on {shown(host)} can be reached from other machines, so it needs tokens. Set FAIRLEAD_API_TOKENS "
            "to lines of name:role:token, or listen on 127.0.0.1."
        )


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _without_port(header: str) -> str:
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
