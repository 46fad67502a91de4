"""Which authority there is: from settings to one that can be opened. Owns what `--ca` and `--ca-jwt-keys` mean."""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discovery.kubernetes.api import ApiError, UnreachableError
from discovery.stores.store import Store, StoreUnavailable
from fairlead.errors import UsageError
from fairlead.identities.authority_places import (
    JWT_KEYS,
    TOKENS,
    Place,
    in_kv,
    in_secret,
    jwt_keys_in_kv,
    jwt_keys_in_secret,
    tokens_in_kv,
    tokens_in_secret,
)
from fairlead.identities.federation import read_settings as read_federated
from fairlead.kubernetes.clusters import home_namespace
from fairlead.settings import Settings
from fairlead.stores.store_place import consul_place
from mesh.spiffe import TrustDomain
from sds.builtin import BuiltinAuthority, Making, in_memory
from sds.jwt_authority import JwtAuthority
from sds.keepers import BookUnavailable, FolderKeeper, Keeper, MemoryKeeper
from sds.kubernetes_csr import KubernetesAuthority
from sds.lifetimes import Lifetimes, utc_now
from sds.rotation import Policy
from sds.sealing import Sealer, SealError, read_passphrase
from sds.vault import VaultAuthority

if TYPE_CHECKING:
    from discovery.stores.consul_kv import Kv

COLLECTION = "authorities"
_VAULT = re.compile(r"https?://[^#]+#[A-Za-z0-9_./-]+/[A-Za-z0-9_.-]+")
_DOCUMENT = "book"
_FORMS = "store, secret:NAME, folder:DIR, memory, files:DIR, vault:URL#MOUNT/ROLE or kubernetes:SIGNER"
_OUTSIDE = ("files", "vault", "kubernetes")
_SECRET = re.compile(r"[a-z0-9]([-a-z0-9.]{0,200}[a-z0-9])?")

Outer = VaultAuthority | KubernetesAuthority

Clock = Callable[[], dt.datetime]


class StoreKeeper:
    """A document in Fairlead's own store, the book if no other; see `sds.keepers.Keeper`."""

    where = "the store"

    def __init__(self, store: Store, document: str = _DOCUMENT) -> None:
        self._store = store
        self._document = document

    async def load(self) -> bytes | None:
        """See `Keeper.load`."""
        try:
            return (await self._store.documents(COLLECTION)).get(self._document)
        except StoreUnavailable as error:
            raise BookUnavailable(str(error)) from None

    async def save(self, document: bytes) -> None:
        """See `Keeper.save`."""
        try:
            await self._store.write_documents(COLLECTION, {self._document: document})
        except StoreUnavailable as error:
            raise BookUnavailable(str(error)) from None


def check(settings: Settings) -> None:
    """Refuse settings that name no authority, before anything is opened.

    Raises:
        UsageError: says what to do.
    """
    kind, rest = _named(settings)
    lifetimes(settings)
    read_federated(settings)
    if bool(settings.bundle_cert) != bool(settings.bundle_key):
        raise UsageError("--bundle-cert and --bundle-key belong together. Fix: both, or neither")
    if settings.bundle_endpoint and not settings.ca:
        raise UsageError("--bundle-endpoint: there is no authority whose bundle could be served. Fix: --ca")
    if kind in {"folder", "files"} and not Path(rest).is_dir():
        fix = f"fairlead ca init --dir {rest}" if kind == "folder" else "mount the authority's files there"
        raise UsageError(f"--ca: there is no folder {rest}. Fix: {fix}")
    if kind in {"store", "folder", "secret"}:
        sealer(settings)
    _check_jwt_keys(settings, kind)
    if kind == "secret" and (not settings.kubernetes or not _SECRET.fullmatch(rest)):
        raise UsageError(
            f"--ca: {settings.ca!r} names no Secret of a cluster. Fix: secret:NAME, like secret:fairlead-authority, and"
            " --kubernetes"
        )
    if kind == "vault" and (not settings.ca_token_file or not _VAULT.fullmatch(rest)):
        raise UsageError("--ca: Vault is named as vault:URL#MOUNT/ROLE, and --ca-token-file has the token for it")
    if kind == "kubernetes" and (not settings.ca_roots or not settings.kubernetes):
        raise UsageError(
            "--ca: a signer in Kubernetes needs a cluster (--kubernetes) and --ca-roots, a file with what its"
            " certificates lead to"
        )


def _check_jwt_keys(settings: Settings, kind: str) -> None:
    where, colon, name = settings.ca_jwt_keys.partition(":")
    if not where and not colon:
        return
    if kind not in _OUTSIDE:
        fix = "leave it out: a built-in authority keeps its own" if kind else "--ca names who signs certificates"
        raise UsageError(f"--ca-jwt-keys: there is no authority beside which keys would be needed. Fix: {fix}")
    in_cluster = where == "secret" and settings.kubernetes and _SECRET.fullmatch(name)
    if settings.ca_jwt_keys != "store" and not in_cluster:
        raise UsageError(
            f"--ca-jwt-keys: {settings.ca_jwt_keys!r} names no place. Fix: store, or secret:NAME with --kubernetes"
        )
    sealer(settings)


def shared_place(
    settings: Settings, store: Store, *, kv: Kv | None, apis: Callable[[], Mapping[str, Any]]
) -> Place | None:
    """Where replicas keep the authority of the settings together; None where each has its own, or none.

    `kv` is that of a store in Consul, `apis` the clusters' API servers by name, the first of which is where Fairlead
    keeps what is its own. What is known of the place is copied to the (local) `store`.
    """
    kind, rest = _named(settings)
    if kind == "secret":
        return in_secret(lambda: next(iter(apis().values())), home_namespace(settings), rest, store)
    if kind == "store" and kv is not None:
        return in_kv(kv, consul_place(settings)[1], store)
    return None


def join_token_place(
    settings: Settings, store: Store, *, kv: Kv | None, apis: Callable[[], Mapping[str, Any]]
) -> Keeper:
    """Where join tokens are kept: where replicas with the same authority find them, else in the (local) store.

    Arguments as those of `shared_place`.
    """
    kind, rest = _named(settings)
    if kind == "secret":
        return tokens_in_secret(lambda: next(iter(apis().values())), home_namespace(settings), rest)
    if kv is not None and kind not in {"memory", "folder"}:  # of which each replica has its own
        return tokens_in_kv(kv, consul_place(settings)[1])
    return StoreKeeper(store, TOKENS)


def jwt_authority(
    settings: Settings, store: Store, *, kv: Kv | None, apis: Callable[[], Mapping[str, Any]], clock: Clock = utc_now
) -> JwtAuthority | None:
    """Who signs JWT-SVIDs beside an authority that is not built in, not yet opened; None where nobody does.

    Arguments as those of `shared_place`.
    """
    where, _, name = settings.ca_jwt_keys.partition(":")
    if not where:
        return None
    keeper: Keeper = StoreKeeper(store, JWT_KEYS)
    if where == "secret":
        keeper = jwt_keys_in_secret(lambda: next(iter(apis().values())), home_namespace(settings), name, store)
    elif kv is not None:
        keeper = jwt_keys_in_kv(kv, consul_place(settings)[1], store)
    return JwtAuthority(TrustDomain(settings.trust_domain), keeper, sealer(settings), clock=clock)


def builtin(
    settings: Settings, store: Store, *, place: Place | None = None, clock: Clock = utc_now
) -> BuiltinAuthority | None:
    """The built-in authority of the settings, not yet opened; None where there is none."""
    kind, rest = _named(settings)
    trust_domain = TrustDomain(settings.trust_domain)
    making = Making(
        key_type=settings.ca_key_type,
        root_life=dt.timedelta(seconds=settings.ca_root_lifetime),
        policy=Policy(bound=dt.timedelta(seconds=settings.ca_activation_wait), renew=kind != "files"),
        outside=kind == "files",
    )
    if kind == "files":
        sealed = Sealer(b"kept in memory alone, as its files are elsewhere")
        return BuiltinAuthority(
            trust_domain, MemoryKeeper(), sealed, making=making, lifetimes=lifetimes(settings), clock=clock
        )
    if kind == "memory":
        return in_memory(trust_domain, making=making, lifetimes=lifetimes(settings), clock=clock)
    keeper: Keeper
    if place is not None:
        keeper = place.keeper
    elif kind == "store":
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


def outer(settings: Settings, apis: Mapping[str, Any], *, clock: Clock = utc_now) -> Outer | None:
    """The authority of the settings that is another program, not yet opened; None where it is none.

    `apis` are the clusters' API servers, by name.
    """
    kind, rest = _named(settings)
    trust_domain = TrustDomain(settings.trust_domain)
    if kind == "vault":
        url, _, place = rest.partition("#")
        mount, _, role = place.rpartition("/")
        return VaultAuthority(
            trust_domain,
            url,
            mount,
            role,
            Path(settings.ca_token_file),
            authorities=settings.ca_server_ca,
            lifetimes=lifetimes(settings),
            clock=clock,
        )
    if kind == "kubernetes":
        [api, *_] = apis.values()
        return KubernetesAuthority(
            trust_domain,
            api,
            rest,
            Path(settings.ca_roots),
            failures=(ApiError, UnreachableError),
            lifetimes=lifetimes(settings),
            clock=clock,
        )
    return None


def mounted_folder(settings: Settings) -> Path | None:
    """The folder of `files:`; None where the authority is another."""
    kind, rest = _named(settings)
    return Path(rest) if kind == "files" else None


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
            "--ca: keys that are kept are sealed with a passphrase, and "
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
    known = {
        "": False,
        "memory": False,
        "store": False,
        **dict.fromkeys(("folder", "files", "vault", "kubernetes", "secret"), True),
    }
    if kind not in known or bool(colon) != known[kind] or bool(rest) != known[kind]:
        raise UsageError(f"--ca: {settings.ca!r} is no authority. Fix: {_FORMS}")
    return kind, rest
