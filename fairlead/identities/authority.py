"""The authority in the program: opened first, then asked by all, its rotation watched over, its bundle kept as a row.

`authorities.py` says which one there is and `sds/rotation.py` what may be done when; here are the loop around
it and what is told of it. Whether a caller may have a certificate is not asked here.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509

from discovery.stores.store import Store
from fairlead.addresses import parse_address
from fairlead.errors import CommandError
from fairlead.identities import authorities
from fairlead.identities.authorities import Outer
from fairlead.identities.bundle_endpoint import BundleServer, PairOfFiles, endpoint_identity
from fairlead.identities.federation import COLLECTION as BUNDLES
from fairlead.identities.federation import Federation
from fairlead.identities.jwt_keys import JwtKeys
from fairlead.identities.own_certificate import OwnCertificate
from fairlead.identities.replica_gate import ReplicaGate
from fairlead.identities.root_gate import RootGate
from fairlead.listening import bind
from fairlead.settings import Settings
from fairlead.stores.documents import DocumentWriter
from fairlead.tasks import Tasks
from mesh.certificates import KeyPair
from mesh.model import TRUST_BUNDLES, TrustBundleRow
from mesh.problems import Problem
from mesh.spiffe import TrustDomain
from mesh.tables import Change, Commit
from sds.authority import Authority, AuthorityError, AuthorityUnavailable
from sds.builtin import BuiltinAuthority
from sds.bundle import InvalidBundle, TrustBundle, read_jwks, write_jwks
from sds.certificates import UnusableAuthority, fingerprint
from sds.expiry import Ending, warnings
from sds.join_tokens import JoinTokens
from sds.jwt_authority import JwtAuthority, WithJwtKeys
from sds.keepers import BookUnavailable, UnreadableBook
from sds.lifetimes import utc_now
from sds.mounted import read_mounted, stamp
from sds.rotation import Gate, RefusedStep

if TYPE_CHECKING:
    from discovery.stores.consul_kv import Kv

SOURCE: Final = "ca"
# While an authority waits for proxies; else only the calendar moves it.
_LOOK_SECONDS: Final = 0.5
_IDLE_SECONDS: Final = 30.0
# Where other replicas move it too.
_SHARED_SECONDS: Final = 2.0
_FILES_SECONDS: Final = 2.0

_log = logging.getLogger(__name__)


class Identities:
    """What the program has of identities. Without an authority it is there, and does nothing."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        submit: Callable[[Iterable[Change]], None],
        apis: Callable[[], Mapping[str, Any]] = dict,
        kv: Kv | None = None,
        clock: Callable[[], dt.datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._store = store
        self._submit = submit
        self._apis = apis
        self._clock = clock
        self._monotonic = monotonic
        self._bell = asyncio.Event()
        self._builtin: BuiltinAuthority | None = None
        self._outer: Outer | None = None
        self._joined: WithJwtKeys | None = None
        self._folder = authorities.mounted_folder(settings)
        self._documents = DocumentWriter(store, BUNDLES)
        self._trouble = ""
        self._file_trouble = ""
        self._stamp: tuple[object, ...] = ()
        self._rows: dict[str, TrustBundleRow] = {}
        self._endpoint: OwnCertificate | None = None
        self._server: BundleServer | None = None
        self._listeners: list[Callable[[bytes], None]] = []
        self.alarms = 0
        self.gate = RootGate(settings.ca_settle_time, monotonic())
        self.jwt_keys = JwtKeys(settings, store, apis=apis, kv=kv, clock=clock)
        self._place = authorities.shared_place(settings, store, kv=kv, apis=apis)
        self._replicas: ReplicaGate | None = None
        if self._place is not None:
            self._replicas = ReplicaGate(self._place.board, settings.ca_settle_time, monotonic=monotonic)
        self.join_tokens = JoinTokens(
            authorities.join_token_place(settings, store, kv=kv, apis=apis), lambda: clock().timestamp()
        )
        self.federation = Federation(settings, store, put=self.put, own=self._own_bundles)

    @property
    def authority(self) -> Authority | None:
        """Who signs; None where nobody does."""
        return self._joined or self._builtin or self._outer

    @property
    def builtin(self) -> BuiltinAuthority | None:
        """The same where its keys are ours."""
        return self._builtin

    @property
    def jwt(self) -> JwtAuthority | None:
        """Who signs JWT-SVIDs; None where nobody does."""
        return self.jwt_keys.authority or (self._builtin if self._folder is None else None)

    def now(self) -> dt.datetime:
        """The time by which certificates are judged."""
        return self._clock()

    def listen(self, told: Callable[[bytes], None]) -> None:
        """Have `told` called with what is to be trusted for our trust domain (PEM), from `open` on at each change."""
        self._listeners.append(told)

    def ring(self) -> None:
        """Look at once at what is due: somebody took a step."""
        self._bell.set()
        self.jwt_keys.ring()

    async def open(self) -> None:
        """Take the authority of the settings.

        Raises:
            CommandError: what is kept of it cannot be used; says why and how to mend it.
        """
        try:
            self._builtin = authorities.builtin(self._settings, self._store, place=self._place, clock=self._clock)
            if self._folder is not None and self._builtin is not None:
                self._stamp = stamp(self._folder)
                await self._builtin.adopt(*read_mounted(self._folder, TrustDomain(self._settings.trust_domain)))
            elif self._builtin is not None and self._settings.ca != "memory":
                await self._builtin.open(may_begin=authorities.may_begin(self._settings))
            elif self._builtin is None:
                self._outer = authorities.outer(self._settings, self._apis(), clock=self._clock)
                if self._outer is not None:
                    await self._open_outer(self._outer)
            await self.jwt_keys.open()
        except (
            UnreadableBook,
            BookUnavailable,
            UnusableAuthority,
            AuthorityUnavailable,
            InvalidBundle,
            OSError,
        ) as error:
            raise CommandError(f"--ca: {error}") from None
        if self.authority is None:
            return
        if self.jwt_keys.authority is not None:
            self._joined = WithJwtKeys(self.authority, self.jwt_keys.authority)
        self.authority.listen(self._changed)
        self._changed()
        if self._replicas is not None:
            # Before a proxy can come: until it is known that those who came have the present roots, all replicas wait.
            with contextlib.suppress(BookUnavailable):
                await self._replicas.exchange(Gate(known=False), self.authority.bundle().pem())
        if self._settings.bundle_endpoint:
            await self._prepare_endpoint(self.authority)

    async def _open_outer(self, outer: Outer) -> None:
        """While it cannot be asked, what was to be trusted last counts: proxies need a server all the same."""
        try:
            await outer.open()
        except AuthorityUnavailable as error:
            name = self._settings.trust_domain
            kept = (await self._store.documents(BUNDLES)).get(name)
            if kept is None:
                raise
            outer.resume(read_jwks(kept, TrustDomain(name)), str(error))
        outer.listen(lambda: self._documents.save({self._settings.trust_domain: write_jwks(outer.bundle())}))
        self._documents.save({self._settings.trust_domain: write_jwks(outer.bundle())})

    async def _prepare_endpoint(self, authority: Authority) -> None:
        settings = self._settings
        address = parse_address(settings.bundle_endpoint, what="--bundle-endpoint")
        pair: Callable[[], KeyPair]
        if settings.bundle_cert:
            pair = PairOfFiles(Path(settings.bundle_cert), Path(settings.bundle_key)).current
        else:
            identity = endpoint_identity(authority.bundle().trust_domain)
            self._endpoint = OwnCertificate(authority, identity, settings.bundle_names, clock=self._clock)
            try:
                await self._endpoint.obtain()
            except AuthorityError as error:
                raise CommandError(f"--bundle-endpoint: {error}") from None
            pair = self._endpoint.current
        self._server = BundleServer(authority.bundle, pair, address)

    async def load(self) -> None:
        """Take what is kept of other trust domains. Raises CommandError."""
        await self.federation.load()

    async def close(self) -> None:
        """Keep what is not kept yet."""
        await self._documents.flush()
        await self.federation.flush()

    def _own_bundles(self) -> tuple[TrustBundle, ...]:
        return (self.authority.bundle(),) if self.authority is not None else ()

    def start(self, tasks: Tasks) -> None:
        """Begin to watch over it; the first build is done."""
        self.gate.restart(self._monotonic())
        if self._builtin is not None:
            tasks.start("ca", self._watch(self._builtin))
            if self._folder is not None:
                tasks.start("the authority's files", self._follow(self._builtin, self._folder))
        if self._outer is not None:
            tasks.start("ca", self._outer.run())
            tasks.start("the authority's bundle", self._documents.run())
        if self._joined is not None:
            tasks.start("keys for JWT-SVIDs", self.jwt_keys.run())
        if self._endpoint is not None:
            tasks.start("the bundle endpoint's certificate", self._endpoint.run())
        if self._server is not None:
            bound = bind(self._server.address, flag="--bundle-endpoint")
            _log.info("bundle endpoint listening on %s:%d", *bound.getsockname()[:2])
            tasks.start("bundle endpoint", self._server.run_on(bound))
        self.federation.start(tasks)

    # -- bundles --------------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        """Our own bundle is another one."""
        assert self.authority is not None
        bundle = self.authority.bundle()
        self.put(bundle, own=True)
        for told in self._listeners:
            told(bundle.pem())
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
        _, row = commit.of(TRUST_BUNDLES).get(self._settings.trust_domain, (None, None))
        if row is not None and row.own:
            self.gate.published(row.roots)
            self._bell.set()

    # -- rotation -------------------------------------------------------------------------------------------------

    def look(self) -> Gate:
        """What is known of the proxies now, those of other replicas too."""
        assert self._builtin is not None
        own, roots = self._look_here(), self._builtin.bundle().pem()
        return self._replicas.gate(own, roots) if self._replicas is not None else own

    def left(self, node: str, current: bool | None) -> None:
        """See `RootGate.away`."""
        self.gate.away(node, self._monotonic(), current=current)

    def _look_here(self) -> Gate:
        assert self._builtin is not None
        return self.gate.look(self._builtin.bundle().pem(), self._monotonic())

    async def _watch(self, authority: BuiltinAuthority) -> None:
        """Take each step when it is due, without end."""
        while True:
            await self._take_steps(authority)
            waiting = authority.book.prepared is not None
            idle = _IDLE_SECONDS if self._replicas is None else _SHARED_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS if waiting else idle):
                    await self._bell.wait()
            self._bell.clear()

    async def _follow(self, authority: BuiltinAuthority, folder: Path) -> None:
        """Take what somebody else writes to the authority's files, without end."""
        while True:
            await asyncio.sleep(_FILES_SECONDS)
            found = stamp(folder)
            if found == self._stamp:
                continue
            try:
                await authority.adopt(*read_mounted(folder, TrustDomain(self._settings.trust_domain)))
                self._stamp, self._file_trouble = found, ""
                self._bell.set()
            except (UnusableAuthority, RefusedStep, BookUnavailable) as error:
                self._file_trouble = str(error)  # it may be half written: it is looked at again

    async def hear(self) -> None:
        """Hear of what other replicas did and see, where there are any that share the authority.

        Raises:
            BookUnavailable, UnreadableBook: that cannot be told now; what was known stands.
        """
        if self._replicas is not None and self._builtin is not None:
            await self._builtin.refresh()
            await self._replicas.exchange(self._look_here(), self._builtin.bundle().pem())

    async def _take_steps(self, authority: BuiltinAuthority) -> None:
        try:
            await self.hear()
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
            roots = self.authority.bundle().roots if self.authority is not None else ()
            certificates = (x509.load_pem_x509_certificate(root) for root in roots)
            return tuple(Ending("the root", fingerprint(one), one.not_valid_after_utc) for one in certificates)
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
        troubles = (self._trouble, self._outer.trouble if self._outer is not None else "")
        fix = "See `fairlead ca status`"
        found += [Problem("AuthorityStuck", "error", "", trouble, fix) for trouble in troubles if trouble]
        found += self.jwt_keys.problems()
        if self._file_trouble:
            fix = "Mend the files; what was read last stands"
            found.append(Problem("AuthorityFiles", "error", "", self._file_trouble, fix))
        return [*((SOURCE, one) for one in found), *self.federation.problems()]

    def numbers(self) -> Mapping[str, Any]:
        """For the metrics page."""
        if self._builtin is None:
            return {"issued": self._outer.issued} if self._outer is not None else {}
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
