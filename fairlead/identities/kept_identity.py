"""What an agent keeps for its next start: key and certificate, in a file of mode 0600 on a memory file system.

Who came in by a join token has nothing else to show when the agent is started anew. The file ends with the machine: a
key never lies on a disk, from where it would find its way into an image or a backup.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import msgspec
from google.protobuf.message import DecodeError

from fairlead.errors import UsageError
from fairlead.identities.issuance import IssueResponse
from sds.keys import SigningKey, UnusableKey, read_key
from sds.sealing import SealError, read_secret_file, write_secret_file

_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_MOUNTS: Final = Path("/proc/self/mountinfo")


class NothingKeptError(Exception):
    """There is no identity to resume; says why."""


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    key: str
    answer: bytes

    def __repr__(self) -> str:
        return "_Document([redacted])"


class KeptIdentity:
    """A file; see the module. Raises UsageError where it would lie on a disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            kind = _file_system(path.parent)
        except OSError as error:
            raise UsageError(f"--keep: {path.parent}: {error.strerror or error}") from None
        if kind not in _IN_MEMORY:
            raise UsageError(
                f"--keep: {path.parent} is on a file system of the kind {kind or 'unknown'}, and a key is kept in"
                " memory alone. Fix: a folder on a tmpfs, like /run/fairlead or /dev/shm/fairlead"
            )

    def save(self, key: SigningKey, answer: Any) -> None:
        """Keep a key and the `IssueResponse` for it. Raises OSError; what was kept before stands."""
        document = _Document(key.pem().pem.decode(), answer.SerializeToString())
        write_secret_file(self._path, msgspec.json.encode(document))

    def load(self) -> tuple[SigningKey, Any]:
        """What was kept; whether it is of any use is not judged.

        Raises:
            NothingKeptError: nothing was, others can read it, or it is damaged.
        """
        try:
            document = msgspec.json.decode(read_secret_file(self._path), type=_Document)
            return read_key(document.key.encode()), IssueResponse.FromString(document.answer)
        except SealError as error:
            raise NothingKeptError(str(error)) from None
        except (msgspec.DecodeError, UnusableKey, DecodeError, ValueError):
            raise NothingKeptError(f"{self._path} is damaged") from None


def _file_system(folder: Path) -> str:
    """The kind of file system that a folder is on, as the kernel names it; empty where it does not say."""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
        # proc(5): "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw"
        left, _, right = line.partition(" - ")
        if left.split(" ")[2:3] == [number]:
            return right.split(" ")[0]
    return ""
