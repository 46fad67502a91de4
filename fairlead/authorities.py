"""Which authority there is: from settings to one that can be opened. Owns the meaning of `--ca`."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path

from discovery.stores.store import Store, StoreUnavailable
from fairlead.errors import UsageError
from fairlead.settings import Settings
from mesh.spiffe import TrustDomain
from sds.builtin import BuiltinAuthority, Making, in_memory, utc_now
from sds.keepers import BookUnavailable, FolderKeeper, Keeper
from sds.lifetimes import Lifetimes
from sds.rotation import Policy
from sds.sealing import Sealer, SealError, read_passphrase

COLLECTION = "authorities"
_DOCUMENT = "book"
_FORMS = "store, folder:DIR, memory or files:DIR"

Clock = Callable[[], dt.datetime]


class StoreKeeper:
    """The book in Fairlead's own store; see `sds.keepers.Keeper`."""

    where = "the store"

    def __init__(self, store: Store) -> None:
        self._store = store

    async def load(self) -> bytes | None:
        """See `Keeper.load`."""
        try:
            return (await self._store.documents(COLLECTION)).get(_DOCUMENT)
        except StoreUnavailable as error:
            raise BookUnavailable(str(error)) from None

    async def save(self, document: bytes) -> None:
        """See `Keeper.save`."""
        try:
            await self._store.write_documents(COLLECTION, {_DOCUMENT: document})
        except StoreUnavailable as error:
            raise BookUnavailable(str(error)) from None


def check(settings: Settings) -> None:
    """Refuse settings that name no authority, before anything is opened.

    Raises:
        UsageError: says what to do.
    """
    kind, rest = _named(settings)
    lifetimes(settings)
    if kind in {"folder", "files"} and not Path(rest).is_dir():
        fix = f"fairlead ca init --dir {rest}" if kind == "folder" else "mount the authority's files there"
        raise UsageError(f"--ca: there is no folder {rest}. Fix: {fix}")
    if kind in {"store", "folder"}:
        sealer(settings)


def builtin(settings: Settings, store: Store, *, clock: Clock = utc_now) -> BuiltinAuthority | None:
    """The built-in authority of the settings, not yet opened; None where there is none."""
    kind, rest = _named(settings)
    trust_domain = TrustDomain(settings.trust_domain)
    making = Making(
        key_type=settings.ca_key_type,
        root_life=dt.timedelta(seconds=settings.ca_root_lifetime),
        policy=Policy(bound=dt.timedelta(seconds=settings.ca_activation_wait)),
    )
    if kind == "memory":
        return in_memory(trust_domain, making=making, lifetimes=lifetimes(settings), clock=clock)
    keeper: Keeper
    if kind == "store":
        keeper = StoreKeeper(store)
    elif kind == "folder":
        folder = FolderKeeper(Path(rest))
        folder.open()
        keeper = folder
    else:
        return None
    return BuiltinAuthority(
        trust_domain, keeper, sealer(settings), making=making, lifetimes=lifetimes(settings), clock=clock
    )


def may_begin(settings: Settings) -> bool:
    """Whether a first authority is made where none is kept: not in a folder, which may be the wrong one."""
    return _named(settings)[0] != "folder"


def lifetimes(settings: Settings) -> Lifetimes:
    """What is granted.

    Raises:
        UsageError: the default is not between the shortest and the longest.
    """
    default, shortest, longest = settings.ca_leaf_lifetime, settings.ca_leaf_lifetime_min, settings.ca_leaf_lifetime_max
    if not shortest <= default <= longest:
        raise UsageError(
            f"--ca-leaf-lifetime is {default:g} s, and lives of {shortest:g} s to {longest:g} s are granted."
            " Fix: --ca-leaf-lifetime-min or --ca-leaf-lifetime-max"
        )
    seconds = dt.timedelta(seconds=1)
    return Lifetimes(default * seconds, shortest * seconds, longest * seconds)


def sealer(settings: Settings) -> Sealer:
    """What seals the keys.

    Raises:
        UsageError: there is no passphrase, or it cannot be read.
    """
    if bool(settings.ca_passphrase) == bool(settings.ca_passphrase_file):
        raise UsageError(
            "--ca: the authority's keys are sealed with a passphrase, and "
            + ("two are given" if settings.ca_passphrase else "none is given")
            + ". Fix: --ca-passphrase-file FILE, or FAIRLEAD_CA_PASSPHRASE"
        )
    try:
        if settings.ca_passphrase_file:
            return Sealer(read_passphrase(Path(settings.ca_passphrase_file)))
        return Sealer(os.fsencode(settings.ca_passphrase))
    except SealError as error:
        raise UsageError(f"--ca-passphrase-file: {error}") from None


def _named(settings: Settings) -> tuple[str, str]:
    kind, colon, rest = settings.ca.partition(":")
    known = {"": False, "memory": False, "store": False, "folder": True, "files": True}
    if kind not in known or bool(colon) != known[kind] or bool(rest) != known[kind]:
        raise UsageError(f"--ca: {settings.ca!r} is no authority. Fix: {_FORMS}")
    return kind, rest
