"""Join tokens: how a machine without a platform to vouch for it gets its first certificate. One use, one identity.

Kept are their hashes, all in one document, which replicas may share: it is written by check-and-set alone. A token is
taken back there before the certificate is handed out: one that is used twice at once, at whatever replica, or again
after a crash, is refused the second time; one whose certificate was lost on the way is lost too. Where it is known that
none was handed out, it is given back.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
from collections.abc import Callable
from typing import Final

import msgspec

from mesh.spiffe import SpiffeId
from sds.keepers import BookChanged, BookUnavailable, Keeper, UnreadableBook

PREFIX: Final = "fljoin_"
MAX_TTL: Final = 7 * 24 * 3_600
MAX_TOKENS: Final = 2_000
MAX_BYTES: Final = 500_000
"""Of all of them: less than what a Secret (1 MiB) or a key of Consul's (512 kB) can hold, for names may be long."""
_REMEMBERED: Final = 1_000
_ATTEMPTS: Final = 30
_PAUSE_SECONDS: Final = 0.02


class BadToken(ValueError):  # noqa: N818 - errors are named by what is true
    """A token that opens nothing; the text is for the log."""


class Grant(msgspec.Struct, frozen=True):
    """What a token is good for, once, until `expires_at` (seconds since the epoch)."""

    spiffe_id: str
    expires_at: float


Grants = dict[str, Grant]
"""By the hash of their token."""


def is_join_token(text: str) -> bool:
    """Whether a bearer token says that it is one of ours."""
    return text.startswith(PREFIX)


class JoinTokens:
    """`clock` is the wall clock. All methods raise BookUnavailable or UnreadableBook where the place cannot be used."""

    def __init__(self, keeper: Keeper, clock: Callable[[], float]) -> None:
        self._keeper = keeper
        self._clock = clock
        self._lock = asyncio.Lock()
        self._taken: dict[str, Grant] = {}

    async def create(self, identity: SpiffeId, ttl: float) -> str:
        """A new token for an identity.

        Raises:
            ValueError: the life is too long or none, or there are too many tokens.
        """
        if not 1 <= ttl <= MAX_TTL:
            raise ValueError(f"a join token lives from 1 s to {MAX_TTL} s")
        token = PREFIX + secrets.token_urlsafe(32)
        grant = Grant(str(identity), self._clock() + ttl)

        def add(kept: Grants) -> None:
            if len(kept) >= MAX_TOKENS:
                raise ValueError(f"there are {MAX_TOKENS} unused join tokens already")
            kept[_hash(token)] = grant
            if len(msgspec.json.encode(kept)) > MAX_BYTES:
                raise ValueError(f"{len(kept)} unused join tokens with such long names are more than can be kept")

        await self._change(add)
        return token

    async def use(self, token: str, may: Callable[[SpiffeId], None] = lambda _: None) -> SpiffeId:
        """Whose the token is; it is good no more. `may` is asked first, once: what it raises leaves the token good.

        Raises:
            BadToken: it was never good, is used up, or has ended.
        """
        name = _hash(token)
        taken: list[Grant] = []

        def take(kept: Grants) -> None:
            if name not in kept:
                raise BadToken("the join token is unknown, was used, or has ended")
            if not taken:
                may(SpiffeId.parse(kept[name].spiffe_id))
            taken[:] = [kept.pop(name)]

        await self._change(take)
        self._taken[name] = taken[0]
        if len(self._taken) > _REMEMBERED:
            del self._taken[next(iter(self._taken))]
        return SpiffeId.parse(taken[0].spiffe_id)

    async def give_back(self, token: str) -> None:
        """Have a token that was used here, and for which nothing was handed out, good again until its end."""
        name = _hash(token)
        if (grant := self._taken.pop(name, None)) is not None:
            await self._change(lambda kept: kept.update({name: grant}))

    async def _change(self, turn: Callable[[Grants], None]) -> None:
        """Change what is kept, as somebody else may have left it; what has ended goes."""
        async with self._lock:
            for attempt in range(_ATTEMPTS):
                now = self._clock()
                kept = {name: grant for name, grant in (await self._read()).items() if grant.expires_at > now}
                turn(kept)
                try:
                    await self._keeper.save(msgspec.json.encode(kept, order="deterministic"))
                except BookChanged:
                    await asyncio.sleep(_PAUSE_SECONDS * random.uniform(0, min(attempt + 1, 10)))  # noqa: S311 - a spread
                else:
                    return
            raise BookUnavailable(f"{self._keeper.where}: others change the join tokens faster than this one can")

    async def _read(self) -> Grants:
        document = await self._keeper.load()
        try:
            return msgspec.json.decode(document, type=Grants) if document is not None else {}
        except msgspec.DecodeError:
            raise UnreadableBook(
                f"{self._keeper.where}: what is kept there are no join tokens. Fix: remove it, and make new tokens"
            ) from None


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
