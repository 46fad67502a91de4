"""Where the book of authorities is kept: its wire form, which notices damage, and a folder of files as one such place.

The form is one line that says what it is and a digest, then JSON. A copy of it is a backup, and is put back by copying.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from pathlib import Path
from typing import IO, Final, Protocol

import msgspec

from mesh.spiffe import TrustDomain
from sds.rotation import Book
from sds.sealing import SealError, read_secret_file, write_secret_file

BOOK_FILE: Final = "authority"
PREVIOUS_FILE: Final = "authority.previous"
_LOCK_FILE: Final = ".lock"
_TITLE: Final = b"fairlead-authority-1 sha256:"


class UnreadableBook(Exception):  # noqa: N818 - errors are named by what is true
    """What is kept is no book of authorities, or was changed; says how to mend it."""


class BookUnavailable(Exception):  # noqa: N818 - errors are named by what is true
    """The book cannot be kept now; nothing was changed."""


class BookChanged(Exception):  # noqa: N818 - errors are named by what is true
    """Another replica has written the book since it was loaded here; nothing was changed. Load it, and do it again."""


class Keeper(Protocol):
    """A place for one document, written whole or not at all.

    One that replicas share writes over nothing but what was loaded or saved here last (check-and-set).
    """

    @property
    def where(self) -> str:
        """The place, for people."""
        ...

    async def load(self) -> bytes | None:
        """What was saved last; None if nothing ever was. Raises UnreadableBook, BookUnavailable."""
        ...

    async def save(self, document: bytes) -> None:
        """Keep it, durably once this returns. Raises BookUnavailable, or BookChanged in a place that is shared."""
        ...


def write_book(book: Book) -> bytes:
    """The wire form."""
    body = msgspec.json.encode(book)
    return _TITLE + hashlib.sha256(body).hexdigest().encode() + b"\n" + body + b"\n"


def read_book(document: bytes, where: str, trust_domain: TrustDomain) -> Book:
    """The book behind the wire form.

    Raises:
        UnreadableBook: it is none, it was damaged, or it is another trust domain's.
    """
    title, _, body = document.partition(b"\n")
    body = body.removesuffix(b"\n")
    fix = "Fix: put a backup back; a new authority in its place would be trusted by nobody"
    if title != _TITLE + hashlib.sha256(body).hexdigest().encode():
        raise UnreadableBook(f"{where}: the authorities kept there are damaged. {fix}")
    try:
        book = msgspec.json.decode(body, type=Book)
    except msgspec.DecodeError as error:
        raise UnreadableBook(f"{where}: the authorities kept there cannot be read: {error}. {fix}") from None
    if book.trust_domain != trust_domain.name:
        raise UnreadableBook(
            f"{where}: the authorities kept there are of the trust domain {book.trust_domain}, not {trust_domain}."
            f" Fix: --trust-domain {book.trust_domain}, or another place"
        )
    if sum(slot.state == "active" for slot in book.slots) != 1:
        raise UnreadableBook(f"{where}: not exactly one of the authorities kept there is active. {fix}")
    return book


class MemoryKeeper:
    """Forgets with the process."""

    where = "memory"

    def __init__(self) -> None:
        self.document: bytes | None = None

    async def load(self) -> bytes | None:
        """See `Keeper.load`."""
        return self.document

    async def save(self, document: bytes) -> None:
        """See `Keeper.save`."""
        self.document = document


class FolderKeeper:
    """A folder that nobody else may read: the book, and the book as it was before.

    One process at a time: a second one would sign with what the first has revoked.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: IO[bytes] | None = None

    @property
    def where(self) -> str:
        """The folder."""
        return str(self._folder)

    def open(self) -> None:
        """Take the folder.

        Raises:
            UnreadableBook: it is missing, others may read it, or another process has it.
        """
        try:
            mode = self._folder.stat().st_mode
            if mode & 0o077:
                raise UnreadableBook(f"{self._folder}: others may read the folder. Fix: chmod 700 {self._folder}")
            lock = (self._folder / _LOCK_FILE).open("wb")
        except OSError as error:
            raise UnreadableBook(
                f"{self._folder}: {error.strerror or error}. Fix: make one with `fairlead ca init`"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise UnreadableBook(
                f"{self._folder}: another process uses the authority there. Fix: stop it, or take another folder"
            ) from None
        self._lock = lock

    def close(self) -> None:
        """Let go of the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def load(self) -> bytes | None:
        """See `Keeper.load`."""
        return await asyncio.to_thread(self.load_now)

    async def save(self, document: bytes) -> None:
        """See `Keeper.save`."""
        await asyncio.to_thread(self.save_now, document)

    def load_now(self) -> bytes | None:
        """See `Keeper.load`."""
        path = self._folder / BOOK_FILE
        if not path.exists():
            return None
        try:
            return read_secret_file(path)
        except SealError as error:
            raise UnreadableBook(str(error)) from None

    def save_now(self, document: bytes) -> None:
        """See `Keeper.save`."""
        path, previous = self._folder / BOOK_FILE, self._folder / PREVIOUS_FILE
        beside = self._folder / f".{PREVIOUS_FILE}.new"
        try:
            if path.exists():
                beside.unlink(missing_ok=True)
                try:
                    os.link(path, beside)
                except OSError:  # a file system without links
                    write_secret_file(previous, path.read_bytes())
                else:
                    os.replace(beside, previous)
            write_secret_file(path, document)
        except OSError as error:
            raise BookUnavailable(f"{path}: {error.strerror or error}. Nothing was changed") from None
