"""Authorities on a disk, made without a server: the folder that a server signs from, and a root that stays offline."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import NamedTuple

from fairlead.errors import CommandError, UsageError, oserror_words
from mesh.spiffe import InvalidSpiffeId, TrustDomain
from sds import rotation
from sds.builtin import new_slot
from sds.certificates import (
    Signer,
    UnusableAuthority,
    intermediate_request,
    new_root,
    read_signer,
    sign_intermediate,
    to_pem,
)
from sds.keepers import FolderKeeper, UnreadableBook, write_book
from sds.keys import KEY_TYPES, UnusableKey, new_key, read_key
from sds.lifetimes import utc_now
from sds.rotation import Slot
from sds.sealing import Sealer, SealError, read_passphrase, read_secret_file, write_secret_file

ROOT_KEY = "root.key"
ROOT_CERTIFICATE = "root.crt"


class Offline(NamedTuple):
    """Where an offline root goes, and what its key is encrypted with."""

    folder: Path
    passphrase_file: Path | None


def init(
    folder: Path,
    passphrase_file: Path,
    *,
    trust_domain: str,
    key_type: str,
    root_days: int,
    days: int,
    offline: Offline | None,
) -> Slot:
    """Make the first authority in a folder; with `offline`, an intermediate of a root that goes elsewhere.

    Raises:
        UsageError: what is asked for makes no sense.
        CommandError: something is there already, or cannot be written.
    """
    if key_type not in KEY_TYPES:
        raise UsageError(f"--key-type: {key_type!r} is none. Fix: one of {', '.join(KEY_TYPES)}")
    try:
        domain = TrustDomain(trust_domain)
    except InvalidSpiffeId as error:
        raise UsageError(f"--trust-domain: {error}") from None
    sealer = Sealer(_passphrase(passphrase_file, "--passphrase-file"))
    now = utc_now()
    root_life = dt.timedelta(days=root_days)
    key = new_key(key_type)  # type: ignore[arg-type] # checked above
    keeper = FolderKeeper(_fresh(folder))
    try:
        keeper.open()
        if keeper.load_now() is not None:
            raise CommandError(f"--dir: an authority is in {folder} already. Fix: another folder; nothing was changed")
        if offline is None:
            signer = new_root(domain, key, now=now, lifetime=root_life)
        else:
            root = new_root(domain, new_key(key_type), now=now, lifetime=root_life, above=1)  # type: ignore[arg-type]
            _write_root(offline, root)
            life = dt.timedelta(days=days)
            chain = sign_intermediate(root, intermediate_request(domain, key), domain, now=now, lifetime=life)
            signer = read_signer(chain, key, domain)
        book = rotation.first(new_slot(signer, domain, sealer, now), domain.name, now)
        keeper.save_now(write_book(book))
    except UnreadableBook as error:
        raise CommandError(f"--dir: {error}") from None
    finally:
        keeper.close()
    return book.active


def sign(root: Path, passphrase_file: Path, request: bytes, *, days: int) -> bytes:
    """The chain (PEM) of an intermediate that was asked for.

    Raises:
        CommandError: root or request cannot be used.
    """
    passphrase = _passphrase(passphrase_file, "--root-passphrase-file")
    try:
        key = read_key(read_secret_file(root / ROOT_KEY), passphrase)
        certificate = (root / ROOT_CERTIFICATE).read_bytes()
        domain = _domain_of(certificate)
        signer = read_signer(certificate, key, domain)
        return sign_intermediate(signer, request, domain, now=utc_now(), lifetime=dt.timedelta(days=days))
    except (SealError, UnusableKey) as error:
        raise CommandError(f"{root / ROOT_KEY}: {error}") from None
    except UnusableAuthority as error:
        raise CommandError(f"cannot sign: {error}") from None
    except OSError as error:
        raise CommandError(
            f"{error.filename}: {oserror_words(error)}. Fix: --root names an offline root's folder"
        ) from None


def _domain_of(certificate: bytes) -> TrustDomain:
    from cryptography import x509

    from mesh.spiffe import SpiffeId

    try:
        names = x509.load_pem_x509_certificate(certificate).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        [uri] = names.value.get_values_for_type(x509.UniformResourceIdentifier)
        return SpiffeId.parse(uri).trust_domain
    except (ValueError, x509.ExtensionNotFound):
        raise UnusableAuthority(f"{ROOT_CERTIFICATE} is no root that `fairlead ca init` made") from None


def _write_root(offline: Offline, root: Signer) -> None:
    if offline.passphrase_file is None:
        raise UsageError("--offline-root: its key is written encrypted. Fix: --root-passphrase-file FILE")
    passphrase = _passphrase(offline.passphrase_file, "--root-passphrase-file")
    folder = _fresh(offline.folder)
    if (folder / ROOT_KEY).exists() or (folder / ROOT_CERTIFICATE).exists():
        raise CommandError(f"--offline-root: a root is in {folder} already. Fix: another folder; nothing was changed")
    try:
        write_secret_file(folder / ROOT_KEY, root.key.sealed_pem(passphrase))
        write_secret_file(folder / ROOT_CERTIFICATE, to_pem(root.certificate))
    except OSError as error:
        raise CommandError(f"{folder}: {oserror_words(error)}") from None


def _fresh(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{folder}: {oserror_words(error)}") from None
    return folder


def _passphrase(path: Path, flag: str) -> bytes:
    try:
        return read_passphrase(path)
    except SealError as error:
        raise UsageError(f"{flag}: {error}") from None
