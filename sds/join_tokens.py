"""Join tokens: how a machine without a platform to vouch for it gets its first certificate. One use, one identity.

Kept are their hashes. A token is taken back in the store before the certificate is handed out: one that is used twice
at once, or again after a crash, is refused the second time; one whose certificate was lost on the way is lost too.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec

from mesh.spiffe import SpiffeId

PREFIX: Final = "fljoin_"
MAX_TTL: Final = 7 * 24 * 3_600
MAX_TOKENS: Final = 10_000


class BadToken(ValueError):  # noqa: N818 - errors are named by what is true
    """A token that opens nothing; the text is for the log."""


class Grant(msgspec.Struct, frozen=True):
    """What a token is good for, once, until `expires_at` (seconds since the epoch)."""

    spiffe_id: str
    expires_at: float


class Keeper(Protocol):
    """Where grants are kept, by the hash of their token."""

    async def documents(self) -> Mapping[str, bytes]:
        """All of them."""

    async def write(self, documents: Mapping[str, bytes | None]) -> None:
        """Keep, or with None forget; durable when it returns."""


def is_join_token(text: str) -> bool:
    """Whether a bearer token says that it is one of ours."""
    return text.startswith(PREFIX)


class JoinTokens:
    """`clock` is the wall clock."""

    def __init__(self, keeper: Keeper, clock: Callable[[], float]) -> None:
        self._keeper = keeper
        self._clock = clock
        self._lock = asyncio.Lock()

    async def create(self, identity: SpiffeId, ttl: float) -> str:
        """A new token for an identity.

        Raises:
            ValueError: the life is too long or none, or there are too many tokens.
        """
        if not 1 <= ttl <= MAX_TTL:
            raise ValueError(f"a join token lives from 1 s to {MAX_TTL} s")
        token = PREFIX + secrets.token_urlsafe(32)
        grant = Grant(str(identity), self._clock() + ttl)
        async with self._lock:
            kept = await self._keeper.documents()
            ended = {name: None for name, content in kept.items() if self._ended(content)}
            if len(kept) - len(ended) >= MAX_TOKENS:
                raise ValueError(f"there are {MAX_TOKENS} unused join tokens already")
            await self._keeper.write({**ended, _hash(token): msgspec.json.encode(grant)})
        return token

    async def use(self, token: str) -> SpiffeId:
        """Whose the token is; it is good no more.

        Raises:
            BadToken: it was never good, is used up, or has ended.
        """
        async with self._lock:
            kept = (await self._keeper.documents()).get(_hash(token))
            if kept is None:
                raise BadToken("the join token is unknown, or was used")
            await self._keeper.write({_hash(token): None})
        if self._ended(kept):
            raise BadToken("the join token has ended")
        return SpiffeId.parse(msgspec.json.decode(kept, type=Grant).spiffe_id)

    def _ended(self, content: bytes) -> bool:
        try:
            return msgspec.json.decode(content, type=Grant).expires_at <= self._clock()
        except msgspec.DecodeError:
            return True


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
