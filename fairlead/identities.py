"""The authority in the program: opened first, then asked by all, its rotation watched over, its bundle kept as a row.

`fairlead/authorities.py` says which one there is and `sds/rotation.py` what may be done when; here are the loop around
it and what is told of it. Whether a caller may have a certificate is not asked here.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from discovery.stores.store import Store
from fairlead import authorities
from fairlead.errors import CommandError
from fairlead.root_gate import RootGate
from fairlead.settings import Settings
from fairlead.tasks import Tasks
from mesh.model import TRUST_BUNDLES, TrustBundleRow
from mesh.problems import Problem
from mesh.tables import Change, Commit
from sds.authority import Authority
from sds.builtin import BuiltinAuthority, utc_now
from sds.bundle import TrustBundle
from sds.expiry import Ending, warnings
from sds.keepers import BookUnavailable, UnreadableBook
from sds.rotation import Gate, RefusedStep

SOURCE: Final = "ca"
# While an authority waits for proxies; else only the calendar moves it.
_LOOK_SECONDS: Final = 0.5
_IDLE_SECONDS: Final = 30.0

_log = logging.getLogger(__name__)


class Identities:
    """What the program has of identities. Without an authority it is there, and does nothing."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        submit: Callable[[Iterable[Change]], None],
        clock: Callable[[], dt.datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._store = store
        self._submit = submit
        self._clock = clock
        self._monotonic = monotonic
        self._bell = asyncio.Event()
        self._builtin: BuiltinAuthority | None = None
        self._trouble = ""
        self._rows: dict[str, TrustBundleRow] = {}
        self.alarms = 0
        self.gate = RootGate(settings.ca_settle_time, monotonic())

    @property
    def authority(self) -> Authority | None:
        """Who signs; None where nobody does."""
        return self._builtin

    @property
    def builtin(self) -> BuiltinAuthority | None:
        """The same where its keys are ours."""
        return self._builtin

    def now(self) -> dt.datetime:
        """The time by which certificates are judged."""
        return self._clock()

    def ring(self) -> None:
        """Look at once at what is due: somebody took a step."""
        self._bell.set()

    async def open(self) -> None:
        """Take the authority of the settings.

        Raises:
            CommandError: what is kept of it cannot be used; says why and how to mend it.
        """
        try:
            self._builtin = authorities.builtin(self._settings, self._store, clock=self._clock)
            if self._builtin is None:
                return
            if self._settings.ca != "memory":
                await self._builtin.open(may_begin=authorities.may_begin(self._settings))
        except (UnreadableBook, BookUnavailable) as error:
            raise CommandError(f"--ca: {error}") from None
        self._builtin.listen(self._changed)
        self._changed()

    def start(self, tasks: Tasks) -> None:
        """Begin to watch over it; the first build is done."""
        self.gate.restart(self._monotonic())
        if self._builtin is not None:
            tasks.start("ca", self._watch(self._builtin))

    # -- bundles --------------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        """Our own bundle is another one."""
        assert self.authority is not None
        bundle = self.authority.bundle()
        self.put(bundle, own=True)
        self._bell.set()

    def put(self, bundle: TrustBundle, *, own: bool = False) -> None:
        """Have a trust domain's bundle as a row from now on."""
        self._put(bundle.trust_domain.name, TrustBundleRow(bundle.pem(), own))

    def _put(self, name: str, row: TrustBundleRow) -> None:
        if self._rows.get(name) != row:
            self._rows[name] = row
            self._submit((Change(TRUST_BUNDLES, name, row),))

    def committed(self, commit: Commit) -> None:
        """A commit was published: streams are told of the bundles in it."""
        own = self._settings.trust_domain
        if own in commit.of(TRUST_BUNDLES) and own in self._rows:
            self.gate.published(self._rows[own].roots)
            self._bell.set()

    # -- rotation -------------------------------------------------------------------------------------------------

    def look(self) -> Gate:
        """What is known of the proxies now."""
        assert self._builtin is not None
        return self.gate.look(self._builtin.bundle().pem(), self._monotonic())

    async def _watch(self, authority: BuiltinAuthority) -> None:
        """Take each step when it is due, without end."""
        while True:
            await self._take_steps(authority)
            waiting = authority.book.prepared is not None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS if waiting else _IDLE_SECONDS):
                    await self._bell.wait()
            self._bell.clear()

    async def _take_steps(self, authority: BuiltinAuthority) -> None:
        try:
            while step := await authority.tick(self.look()):
                self.alarms += bool(step.alarm)
            self._trouble = ""
        except (RefusedStep, BookUnavailable, UnreadableBook) as error:
            if str(error) != self._trouble:
                _log.error("the authority cannot be moved on: %s", error)
            self._trouble = str(error)

    # -- what is told ---------------------------------------------------------------------------------------------

    def endings(self) -> Sequence[Ending]:
        """The certificates without which nothing can be signed, and when they end."""
        if self._builtin is None:
            return ()
        active = self._builtin.book.active
        return (Ending("the authority", active.id, active.ends_at),)

    def problems(self) -> Sequence[tuple[str, Problem]]:
        """What an operator should look after."""
        found = [
            Problem(
                "AuthorityEnds",
                "warning" if one.days > 1 else "error",
                "",
                str(one),
                "`fairlead ca status` shows what follows; `fairlead ca prepare`, then `fairlead ca activate`",
            )
            for one in warnings(self.endings(), self._clock())
        ]
        if self._trouble:
            found.append(Problem("AuthorityStuck", "error", "", self._trouble, "See `fairlead ca status`"))
        return [(SOURCE, one) for one in found]

    def numbers(self) -> Mapping[str, Any]:
        """For the metrics page."""
        if self._builtin is None:
            return {}
        now = self._clock()
        prepared = self._builtin.book.prepared
        return {
            "issued": self._builtin.issued,
            "alarms": self.alarms,
            "waiting": len(self.look().waiting) if prepared is not None else 0,
            "left": [
                ((slot.id, slot.state), (slot.ends_at - now).total_seconds()) for slot in self._builtin.book.trusted()
            ],
        }
