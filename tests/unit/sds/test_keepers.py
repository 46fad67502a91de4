"""The book of authorities on a disk: damage is noticed, nobody else reads it, and a kill loses nothing."""

from __future__ import annotations

import asyncio
import datetime as dt
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.spiffe import SpiffeId, TrustDomain
from sds.builtin import BuiltinAuthority, Making
from sds.jwt_svid import validate
from sds.keepers import (
    BOOK_FILE,
    PREVIOUS_FILE,
    BookUnavailable,
    FolderKeeper,
    MemoryKeeper,
    UnreadableBook,
    read_book,
    write_book,
)
from sds.rotation import Book, Gate, Policy, RefusedStep, Slot
from sds.sealing import Sealer

TD = TrustDomain("example.org")
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
SLOT = Slot("a", "active", "a", "chain", b"\x00\xffkey", b"jwt", "public", NOW, NOW, NOW, NOW + dt.timedelta(days=1))
BOOK = Book("example.org", 7, (SLOT,))
DOCUMENT = write_book(BOOK)
PASSPHRASE = b"a passphrase for tests"
SEALER = Sealer(PASSPHRASE)


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder on disk, and one on a memory file system, as keys may be kept that must not outlive the machine."""
    if request.param == "disk":
        made = tmp_path / "ca"
        made.mkdir(mode=0o700)
        yield made
        return
    mounts = (line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines())
    if ["/dev/shm", "tmpfs"] not in mounts:
        pytest.skip("/dev/shm is no memory file system here")
    with tempfile.TemporaryDirectory(prefix="fairlead-", dir="/dev/shm") as name:
        yield Path(name)


def test_a_book_reads_back_as_it_was_written() -> None:
    assert read_book(DOCUMENT, "here", TD) == BOOK


@given(st.integers(0, len(DOCUMENT) - 2), st.integers(1, 255))
def test_a_changed_byte_is_damage(at: int, flip: int) -> None:
    damaged = DOCUMENT[:at] + bytes([DOCUMENT[at] ^ flip]) + DOCUMENT[at + 1 :]
    with pytest.raises(UnreadableBook, match=r"damaged.*put a backup back"):
        read_book(damaged, "here", TD)


@pytest.mark.parametrize("document", [b"", b"\x00" * 100, DOCUMENT[:40], DOCUMENT[:-30], DOCUMENT + b"more", b"{}"])
def test_half_a_book_or_none_is_damage(document: bytes) -> None:
    with pytest.raises(UnreadableBook):
        read_book(document, "here", TD)


def test_a_book_of_another_trust_domain_or_without_one_that_signs_is_refused() -> None:
    with pytest.raises(UnreadableBook, match=r"--trust-domain example\.org"):
        read_book(DOCUMENT, "here", TrustDomain("elsewhere"))
    for slots in ((), (SLOT, SLOT)):
        with pytest.raises(UnreadableBook, match="not exactly one"):
            read_book(write_book(Book("example.org", 7, slots)), "here", TD)


def test_the_book_before_is_kept_beside_it(folder: Path) -> None:
    keeper = FolderKeeper(folder)
    for text in (b"one", b"two", b"three"):
        keeper.save_now(text)
    assert keeper.load_now() == b"three"
    assert (folder / PREVIOUS_FILE).read_bytes() == b"two"
    assert {one.stat().st_mode & 0o777 for one in folder.iterdir()} == {0o600}


def test_a_folder_that_others_may_read_is_refused(folder: Path) -> None:
    folder.chmod(0o750)
    with pytest.raises(UnreadableBook, match="chmod 700"):
        FolderKeeper(folder).open()
    with pytest.raises(UnreadableBook, match="fairlead ca init"):
        FolderKeeper(folder / "missing").open()


def test_a_book_that_others_may_read_is_refused(folder: Path) -> None:
    keeper = FolderKeeper(folder)
    keeper.save_now(DOCUMENT)
    (folder / BOOK_FILE).chmod(0o640)
    with pytest.raises(UnreadableBook, match="chmod 600"):
        keeper.load_now()


def test_a_folder_is_one_process_at_a_time(folder: Path) -> None:
    first, second = FolderKeeper(folder), FolderKeeper(folder)
    first.open()
    with pytest.raises(UnreadableBook, match="another process"):
        second.open()
    first.close()
    second.open()
    second.close()


# -- the authority around it -------------------------------------------------------------------------------------


async def authority(folder: Path, sealer: Sealer = SEALER) -> BuiltinAuthority:
    made = BuiltinAuthority(TD, FolderKeeper(folder), sealer, making=Making(policy=Policy(renew=False)))
    await made.open()
    return made


async def test_an_authority_comes_back_as_it_was(folder: Path) -> None:
    first = await authority(folder)
    await first.prepare()
    second = await authority(folder)
    assert second.book == first.book
    assert second.bundle() == first.bundle()
    token = first.issue_jwt(SpiffeId.parse("spiffe://example.org/a"), ("b",))
    bundles = {TD: second.bundle()}
    assert validate(token, bundles, audience="b", now=dt.datetime.now(dt.UTC)).identity.path == "/a"


async def test_another_passphrase_is_told_and_nothing_is_overwritten(folder: Path) -> None:
    await authority(folder)
    before = (folder / BOOK_FILE).read_bytes()
    with pytest.raises(UnreadableBook, match="passphrase is another one"):
        await authority(folder, Sealer(b"another passphrase"))
    assert (folder / BOOK_FILE).read_bytes() == before


async def test_a_damaged_book_stops_the_start_and_a_backup_brings_the_last_state_back(folder: Path) -> None:
    first = await authority(folder)
    await first.prepare()
    backup = (folder / BOOK_FILE).read_bytes()
    (folder / BOOK_FILE).write_bytes(backup[: len(backup) // 2])
    with pytest.raises(UnreadableBook, match="damaged"):
        await authority(folder)
    (folder / BOOK_FILE).write_bytes(backup)
    again = await authority(folder)
    assert again.book == first.book
    await again.activate(again.book.slots[1].id, Gate())
    assert again.bundle().sequence >= first.bundle().sequence


async def test_no_passphrase_and_no_key_is_in_the_book_in_clear(folder: Path) -> None:
    made = await authority(folder)
    await made.request()
    kept = (folder / BOOK_FILE).read_bytes()
    assert b"PRIVATE" not in kept
    assert PASSPHRASE not in kept


class _Failing(MemoryKeeper):
    fails = False

    async def save(self, document: bytes) -> None:
        if self.fails:
            raise BookUnavailable("the disk is full. Nothing was changed")
        await super().save(document)


async def test_a_step_that_cannot_be_kept_does_not_happen() -> None:
    keeper = _Failing()
    made = BuiltinAuthority(TD, keeper, SEALER)
    await made.open()
    before, told = made.book, list[str]()
    made.listen(lambda: told.append("changed"))
    keeper.fails = True
    with pytest.raises(BookUnavailable, match="disk is full"):
        await made.prepare()
    assert made.book == before
    assert told == []
    keeper.fails = False
    slot = await made.prepare()
    assert made.book.slot(slot.id).state == "prepared"
    assert told == ["changed"]


async def test_an_offline_roots_authority_is_not_prepared_without_its_signature(folder: Path) -> None:
    made = await authority(folder)
    with pytest.raises(RefusedStep, match="ca request"):
        await made.prepare(b"a chain")
    await made.request()
    with pytest.raises(RefusedStep, match="cannot be used"):
        await made.prepare(b"a chain")


# -- killed ------------------------------------------------------------------------------------------------------

# Does the steps of a rotation again and again, each time in a process of its own, which kills itself (SIGKILL) at the
# n-th of the system calls that change the folder; tells what each had been told by then.
_KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from mesh.spiffe import TrustDomain
from sds.builtin import BuiltinAuthority, Making
from sds.keepers import BOOK_FILE, FolderKeeper
from sds.rotation import Gate, Policy
from sds.sealing import Sealer

sealer = Sealer(b"a passphrase for tests")
begin = (Path(sys.argv[1]) / BOOK_FILE).read_bytes()

def deadly(real, fatal, calls=[0]):
    def call(*args, **more):
        calls[0] += 1
        if calls[0] == fatal:
            if real is os.write:
                real(args[0], bytes(args[1])[: len(args[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **more)
    return call

async def steps(folder, fatal):
    made = BuiltinAuthority(TrustDomain("example.org"), FolderKeeper(folder), sealer,
                            making=Making(policy=Policy(renew=False)))
    await made.open()
    for name in ("write", "fsync", "replace", "link"):
        setattr(os, name, deadly(getattr(os, name), fatal))
    say = lambda: sys.stderr.write(" ".join(f"{slot.id}={slot.state}" for slot in made.book.slots) + ",")
    say()
    new = await made.prepare(); say()
    old = made.book.active.id
    await made.activate(new.id, Gate()); say()
    await made.taint(old); say()
    await made.revoke(old, override=True); say()

sealer.open(sealer.seal(b"", ""), "")
for fatal in range(1, 60):
    folder = Path(sys.argv[1]) / str(fatal)
    folder.mkdir(mode=0o700)
    FolderKeeper(folder).save_now(begin)
    sys.stderr.write(f"{fatal}:")
    sys.stderr.flush()
    child = os.fork()
    if not child:
        asyncio.run(steps(folder, fatal))
        os._exit(7)
    status = os.waitpid(child, 0)[1]
    sys.stderr.write(f"{os.waitstatus_to_exitcode(status)}\\n")
    if os.WIFEXITED(status):
        break
"""


@pytest.fixture
async def killed(folder: Path) -> list[tuple[Path, list[str], int]]:
    """For each moment: the folder as it was left, what had been told, and how the process ended."""
    await authority(folder)
    run = await asyncio.create_subprocess_exec(sys.executable, "-c", _KILLED, folder, stderr=asyncio.subprocess.PIPE)
    _, said = await run.communicate()
    assert run.returncode == 0, said.decode()
    found = []
    for line in said.decode().splitlines():
        number, _, rest = line.partition(":")
        *told, code = rest.split(",")
        found.append((folder / number, told, int(code)))
    return found


async def test_killed_at_any_moment_it_comes_back_in_the_state_before_or_after_the_step(
    killed: list[tuple[Path, list[str], int]],
) -> None:
    *deaths, (_, _, ended) = killed
    assert ended == 7
    assert {code for _, _, code in deaths} == {-signal.SIGKILL}
    assert len(deaths) >= 4 * 5
    further = 0
    for folder, told, _ in deaths:
        found = await authority(folder)
        kept = [(slot.id, slot.state) for slot in found.book.slots]
        if kept != [tuple(one.split("=")) for one in told[-1].split(" ")]:
            further += 1  # one step further than was told, and no more
            assert _steps(kept) == len(told)
        if len(kept) == 1:  # it works on from there, whatever was left lying about
            await found.prepare()
            assert (await authority(folder)).book == found.book
    assert further >= 4


def _steps(states: list[tuple[str, str]]) -> int:
    """How many steps lead to some states."""
    match [state for _, state in states]:
        case ["active"]:
            return 0
        case ["active", "prepared"]:
            return 1
        case ["old", "active"]:
            return 2
        case ["tainted", "active"]:
            return 3
        case ["revoked", "active"]:
            return 4
        case other:
            raise AssertionError(other)
