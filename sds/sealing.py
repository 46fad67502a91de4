"""Keys at rest: sealed with a passphrase, and files that others cannot read.

AES-256-GCM under a key that scrypt makes of the passphrase. Not PKCS #8's own encryption, for what the server keeps: as
`cryptography` writes it, that is AES-CBC without a check of integrity, under PBKDF2 with few rounds, which a graphics
card guesses a hundred times faster; and it binds a key to nothing, where this binds it to its trust domain and purpose,
so that two sealed keys cannot be exchanged for each other. An offline root's key, which other programs shall be able to
read in ten years, is PKCS #8 all the same.
"""

from __future__ import annotations

import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

MIN_PASSPHRASE: Final = 12
_MAGIC: Final = b"FLS1"
_SALT: Final = 16
_NONCE: Final = 12
# 32 MB and 0.1 s: what OWASP asks for, and little enough for a small server.
_N, _R, _P = 1 << 15, 8, 1
_MAX_FILE: Final = 1 << 20


class SealError(Exception):
    """A sealed key that cannot be opened, or a secret file that cannot be used; says why, and shows nothing of it."""


class Sealer:
    """Seals with one passphrase. Does not show it."""

    __slots__ = ("_derive", "_salt")

    def __init__(self, passphrase: bytes) -> None:
        if len(passphrase) < MIN_PASSPHRASE:
            raise SealError(f"the passphrase has {len(passphrase)} bytes; it needs {MIN_PASSPHRASE} at least")
        self._salt = os.urandom(_SALT)

        @lru_cache(maxsize=8)
        def derive(salt: bytes) -> AESGCM:
            return AESGCM(Scrypt(salt=salt, length=32, n=_N, r=_R, p=_P).derive(passphrase))

        self._derive = derive

    def seal(self, plain: bytes, purpose: str) -> bytes:
        """Encrypt for a purpose."""
        nonce = os.urandom(_NONCE)
        return _MAGIC + self._salt + nonce + self._derive(self._salt).encrypt(nonce, plain, purpose.encode())

    def open(self, sealed: bytes, purpose: str) -> bytes:
        """Decrypt what was sealed for that purpose.

        Raises:
            SealError: another passphrase, another purpose, or it was changed.
        """
        head = len(_MAGIC) + _SALT
        if not sealed.startswith(_MAGIC) or len(sealed) < head + _NONCE:
            raise SealError("it is not a sealed key")
        salt, nonce, body = sealed[len(_MAGIC) : head], sealed[head : head + _NONCE], sealed[head + _NONCE :]
        try:
            return self._derive(salt).decrypt(nonce, body, purpose.encode())
        except InvalidTag:
            raise SealError("the passphrase is another one, or the sealed key was changed") from None

    def __repr__(self) -> str:
        return "[redacted]"


def read_secret_file(path: Path) -> bytes:
    """A file with a secret in it.

    Raises:
        SealError: it cannot be read, or others than its owner can.
    """
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise SealError(f"{path} is not a file")
            if about.st_mode & 0o077:
                mode = f"{stat.S_IMODE(about.st_mode):04o}"
                raise SealError(f"{path} has mode {mode}, so that others can read it. Fix: chmod 600 {path}")
            found = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise SealError(f"cannot read {path}: {error.strerror or error}") from None
    if len(found) > _MAX_FILE:
        raise SealError(f"{path} is larger than a secret can be")
    return found


def read_passphrase(path: Path) -> bytes:
    """A passphrase from the first line of a file; see `read_secret_file`."""
    found = read_secret_file(path).split(b"\n", 1)[0].strip()
    if len(found) < MIN_PASSPHRASE:
        raise SealError(f"the first line of {path} has {len(found)} bytes; a passphrase has {MIN_PASSPHRASE} or more")
    return found


def write_secret_file(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, whatever happens; nobody else can read it (mode 0600).

    Raises:
        OSError: it cannot be written; the file is as it was.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
