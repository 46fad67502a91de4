"""What an agent keeps for its next start: on memory file systems alone, for its user alone, whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.errors import UsageError
from fairlead.identities.issuance import IssueResponse
from fairlead.identities.kept_identity import KeptIdentity, NothingKeptError
from sds.keys import new_key

SHM = Path("/dev/shm")


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=SHM) as folder:
        yield Path(folder) / "made" / "identity"


def test_what_is_kept_is_read_again_from_a_file_of_its_user_alone(path: Path) -> None:
    key, answer = new_key(), IssueResponse(chain=b"a chain", spiffe_id="spiffe://a/b")
    kept = KeptIdentity(path)
    with pytest.raises(NothingKeptError, match="No such file"):
        kept.load()
    kept.save(key, answer)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    found, said = KeptIdentity(path).load()
    assert (found.public_key, said) == (key.public_key, answer)


def test_a_key_is_kept_on_no_disk() -> None:
    with pytest.raises(UsageError, match=r"/sys is on a file system of the kind sysfs.*Fix: a folder on a tmpfs"):
        KeptIdentity(Path("/sys/identity"))


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"key":"no key","answer":""}', b'{"key":1}'])
def test_what_is_damaged_or_open_to_others_is_not_resumed(path: Path, content: bytes) -> None:
    kept = KeptIdentity(path)
    kept.save(new_key(), IssueResponse())
    whole = path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(NothingKeptError, match="is damaged"):
        kept.load()
    path.write_bytes(whole)
    path.chmod(0o640)
    with pytest.raises(NothingKeptError, match="others can read it"):
        kept.load()
