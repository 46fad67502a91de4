"""Keys for JWT-SVIDs beside an authority that is not ours: opened, shared with other replicas, moved on in time.

The decisions are `sds/rotation.py`'s, what is kept and signed `sds/jwt_authority.py`'s; here is the loop around them.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from discovery.stores.store import Store
from fairlead.identities import authorities
from fairlead.settings import Settings
from mesh.problems import Problem
from sds.jwt_authority import JwtAuthority, spread_gate
from sds.keepers import BookUnavailable, UnreadableBook
from sds.lifetimes import utc_now
from sds.rotation import Gate, RefusedStep

if TYPE_CHECKING:
    from discovery.stores.consul_kv import Kv

# Other replicas move it too, and what they published has to be known here before they sign with it.
_LOOK_SECONDS: Final = 5.0
_log = logging.getLogger(__name__)


class JwtKeys:
    """`authority` is None where certificates' authority signs tokens too, or nobody does."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        apis: Callable[[], Mapping[str, Any]] = dict,
        kv: Kv | None = None,
        clock: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        self._clock = clock
        self._bell = asyncio.Event()
        self._trouble = ""
        self.authority: JwtAuthority | None = authorities.jwt_authority(settings, store, kv=kv, apis=apis, clock=clock)

    async def open(self) -> None:
        """Take the keys that are kept, or make the first. Raises UnreadableBook, BookUnavailable."""
        if self.authority is not None:
            await self.authority.open()

    async def hear(self) -> None:
        """Hear of what other replicas did. Raises UnreadableBook, BookUnavailable."""
        if self.authority is not None:
            await self.authority.refresh()

    def look(self) -> Gate:
        """Whether a new key may sign."""
        assert self.authority is not None
        return spread_gate(self.authority.book, self._clock())

    def ring(self) -> None:
        """Look at once at what is due: somebody took a step."""
        self._bell.set()

    async def run(self) -> None:
        """Take what other replicas did, and each step when it is due, without end."""
        while True:
            await self._take_steps()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._bell.wait()
            self._bell.clear()

    async def _take_steps(self) -> None:
        assert self.authority is not None
        try:
            await self.hear()
            while await self.authority.tick(self.look()):
                pass
            self._trouble = ""
        except (RefusedStep, BookUnavailable, UnreadableBook) as error:
            if str(error) != self._trouble:
                _log.error("the keys for JWT-SVIDs cannot be moved on: %s", error)
            self._trouble = str(error)

    def problems(self) -> Sequence[Problem]:
        """What an operator should look after."""
        if not self._trouble:
            return ()
        return (Problem("JwtKeysStuck", "error", "", self._trouble, "See `fairlead ca status`"),)
