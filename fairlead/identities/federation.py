"""The other trust domains that we trust in what is theirs: their bundles, fetched, judged, kept and shown.

`sds/federation.py` says which bundle may be believed; here are the loops, one for each domain, so that none waits for
another. The last good bundle outlives an endpoint that is away, and restarts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from api.ports import NotFound, Unavailable
from discovery.stores.store import Store, StoreUnavailable
from fairlead.errors import CommandError, UsageError, oserror_words
from fairlead.settings import Settings
from fairlead.stores.documents import DocumentWriter
from fairlead.tasks import Tasks
from mesh.problems import Problem
from mesh.spiffe import TrustDomain
from sds.bundle import InvalidBundle, TrustBundle, read_jwks, write_jwks
from sds.federation import Federated, FetchError, fetch, judged, read_federated, refresh_after, web_context

COLLECTION: Final = "bundles"
SOURCE: Final = "federation"
_SPREAD: Final = 0.1

_log = logging.getLogger(__name__)


class _Domain:
    """One trust domain and what is known of it."""

    def __init__(self, where: Federated) -> None:
        self.where = where
        self.bundle: TrustBundle | None = None
        self.failures = 0
        self.problem = ""
        self.bell = asyncio.Event()


def read_settings(settings: Settings) -> tuple[Federated, ...]:
    """The domains of the settings.

    Raises:
        UsageError: a setting that names none.
    """
    own = TrustDomain(settings.trust_domain)
    found: dict[TrustDomain, Federated] = {}
    for text in settings.federate:
        try:
            one = read_federated(text, own)
        except ValueError as error:
            raise UsageError(f"--federate: {error}") from None
        if one.trust_domain in found:
            raise UsageError(f"--federate: {one.trust_domain} stands twice. Fix: one address for each trust domain")
        found[one.trust_domain] = one
    return tuple(found.values())


class Federation:
    """`put` takes a bundle that counts from now on; `others` are those it must not speak for."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        put: Callable[[TrustBundle], None],
        own: Callable[[], Iterable[TrustBundle]],
    ) -> None:
        self._domains = {one.trust_domain: _Domain(one) for one in read_settings(settings)}
        self._store = store
        self._documents = DocumentWriter(store, COLLECTION)
        self._put = put
        self._own = own
        self._web: ssl.SSLContext | None = None
        self._web_ca = settings.federate_ca

    async def load(self) -> None:
        """Take what is kept of each domain, or its first bundle.

        Raises:
            CommandError: a file of the settings cannot be used.
        """
        if not self._domains:
            return
        try:
            self._web = web_context(self._web_ca)
            kept = await self._store.documents(COLLECTION)
        except (OSError, ssl.SSLError) as error:
            raise CommandError(f"--federate-ca: {error}. Fix: a PEM file with authorities") from None
        except StoreUnavailable as error:
            raise CommandError(str(error)) from None
        for trust_domain, domain in self._domains.items():
            domain.bundle = _kept(kept.get(trust_domain.name), trust_domain) or _first(domain.where)
            if domain.bundle is not None:
                self._put(domain.bundle)

    def start(self, tasks: Tasks) -> None:
        """Begin to fetch."""
        for trust_domain, domain in self._domains.items():
            tasks.start(f"bundle of {trust_domain}", self._follow(domain))
        if self._domains:
            tasks.start("bundles", self._documents.run())

    async def flush(self) -> None:
        """Write what is not written yet."""
        await self._documents.flush()

    async def _follow(self, domain: _Domain) -> None:
        while True:
            await self._look(domain)
            pause = refresh_after(domain.bundle, domain.failures)
            pause *= 1 + _SPREAD * (2 * random.random() - 1)  # noqa: S311 - a spread
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await domain.bell.wait()
            domain.bell.clear()

    async def _look(self, domain: _Domain) -> None:
        """Fetch once, and take what may be believed."""
        assert self._web is not None
        try:
            found = await asyncio.to_thread(fetch, domain.where, domain.bundle, self._web)
            known = [one.bundle for one in self._domains.values() if one.bundle is not None]
            found = judged(found, domain.bundle, [*self._own(), *known])
        except (FetchError, InvalidBundle) as error:
            domain.failures += 1
            domain.problem = str(error)
            return
        domain.failures, domain.problem = 0, ""
        if found != domain.bundle:
            domain.bundle = found
            _log.info("trust domain %s: bundle %d, %d roots", found.trust_domain, found.sequence, len(found.roots))
            self._documents.save({found.trust_domain.name: write_jwks(found)})
            self._put(found)

    # -- what is told ---------------------------------------------------------------------------------------------

    def problems(self) -> Sequence[tuple[str, Problem]]:
        """Which domains cannot be asked."""
        return [
            (
                SOURCE,
                Problem(
                    "BundleAway",
                    "warning" if domain.bundle is not None else "error",
                    "",
                    f"the bundle of {trust_domain} cannot be had: {domain.problem}",
                    "See to its endpoint; " + ("the last good one stands" if domain.bundle else "none was ever had"),
                ),
            )
            for trust_domain, domain in self._domains.items()
            if domain.problem
        ]

    def status(self) -> Sequence[Mapping[str, Any]]:
        """Every domain, sorted."""
        return [
            {
                "trustDomain": trust_domain.name,
                "url": domain.where.url,
                "profile": domain.where.profile,
                "sequence": domain.bundle.sequence if domain.bundle is not None else 0,
                "roots": len(domain.bundle.roots) if domain.bundle is not None else 0,
                "problem": domain.problem,
            }
            for trust_domain, domain in sorted(self._domains.items())
        ]

    async def refresh(self, name: str) -> Mapping[str, Any]:
        """Fetch the bundle of a domain now. Raises NotFound, Unavailable."""
        domain = next((one for found, one in self._domains.items() if found.name == name), None)
        if domain is None:
            raise NotFound(f"No trust domain {name} is federated with. Name it with --federate.")
        await self._look(domain)
        if domain.problem:
            raise Unavailable(domain.problem, fix="The last good bundle stands")
        return next(one for one in self.status() if one["trustDomain"] == name)


def _kept(document: bytes | None, trust_domain: TrustDomain) -> TrustBundle | None:
    if document is None:
        return None
    try:
        return read_jwks(document, trust_domain)
    except InvalidBundle as error:
        _log.warning("the kept bundle of %s cannot be used: %s", trust_domain, error)
        return None


def _first(where: Federated) -> TrustBundle | None:
    if not where.first:
        return None
    try:
        return read_jwks(Path(where.first).read_bytes(), where.trust_domain)
    except OSError as error:
        raise CommandError(f"--federate: {where.first}: {oserror_words(error)}. Fix: a file that can be read") from None
    except InvalidBundle as error:
        raise CommandError(f"--federate: {where.first}: {error}. Fix: what its bundle endpoint serves") from None
