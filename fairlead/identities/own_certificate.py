"""A certificate of the server's own, from its own authority, renewed at half its life. The key never leaves memory."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import random
from collections.abc import Callable
from typing import Final

from mesh.certificates import KeyPair
from mesh.spiffe import SpiffeId
from sds.authority import Authority, AuthorityError, Issued
from sds.certificates import general_names
from sds.keys import new_key, request_for
from sds.lifetimes import utc_now
from sds.outer import leads_to
from sds.renewal import renew_at, retry_after

_SHORTEST_SLEEP: Final = 0.5  # whatever an authority at its end still grants
_LONGEST_SLEEP: Final = 3_600.0
_log = logging.getLogger(__name__)


class OwnCertificate:
    """`names` are DNS names and addresses beside the identity. `obtain` comes first; then `run` keeps it fresh."""

    def __init__(
        self,
        authority: Authority,
        identity: SpiffeId,
        names: tuple[str, ...] = (),
        *,
        clock: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        self._authority = authority
        self._identity = identity
        self._names = names
        self._clock = clock
        self._bell = asyncio.Event()
        self._pair: KeyPair | None = None
        self._issued: Issued | None = None
        self._renew_at = clock()
        authority.listen(self._bell.set)

    def current(self) -> KeyPair:
        """The certificate of the moment, with its key."""
        assert self._pair is not None
        return self._pair

    async def obtain(self) -> None:
        """Get a new one, with a new key.

        Raises:
            AuthorityError: not now, or not at all.
        """
        key, now = new_key(), self._clock()
        request = request_for(key, self._identity, general_names(self._names))
        issued = await self._authority.issue(key.public_key, self._identity, dns_names=self._names, request=request)
        self._pair, self._issued = KeyPair(issued.chain, key.pem()), issued
        self._renew_at = renew_at(now, issued.not_after, draw=random.random())  # noqa: S311 - a spread

    async def run(self) -> None:
        """Renew it in time, and at once where its signer is tainted or trusted no more, without end."""
        failures = 0
        while True:
            now = self._clock()
            if now >= self._renew_at or self._doubted():
                try:
                    await self.obtain()
                    failures = 0
                except AuthorityError as error:
                    failures += 1
                    _log.warning("the certificate of %s cannot be renewed: %s", self._identity, error)
            await self._sleep(failures)

    def _doubted(self) -> bool:
        bundle = self._authority.bundle()
        if self._issued is None or self._issued.authority in bundle.tainted:
            return True
        return not leads_to(self._issued.chain, bundle.roots)

    async def _sleep(self, failures: int) -> None:
        assert self._issued is not None
        now = self._clock()
        pause = self._renew_at - now
        if failures:
            pause = retry_after(failures, left=self._issued.not_after - now, draw=random.random())  # noqa: S311
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(max(pause.total_seconds(), _SHORTEST_SLEEP), _LONGEST_SLEEP)):
                await self._bell.wait()
        self._bell.clear()
