"""Keys at rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sds.keys import UnusableKey, new_key, read_key
from sds.sealing import Sealer, SealError, read_passphrase, read_secret_file, write_secret_file

PASSPHRASE = b"correct horse battery staple"
SEALER = Sealer(PASSPHRASE)
SEALED = SEALER.seal(b"the key", "td/x509/1")


def test_what_was_sealed_opens_with_the_same_passphrase_and_purpose_alone() -> None:
    assert Sealer(PASSPHRASE).open(SEALED, "td/x509/1") == b"the key"
    for sealer, purpose in ((Sealer(b"another passphrase"), "td/x509/1"), (SEALER, "td/jwt/1"), (SEALER, "")):
        with pytest.raises(SealError, match="passphrase is another one"):
            sealer.open(SEALED, purpose)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed(at: int, flip: int) -> None:
    if 4 <= at < 20:
        return  # the salt: each other one costs a tenth of a second, and the next test has one
    with pytest.raises(SealError):
        SEALER.open(SEALED[:at] + bytes([SEALED[at] ^ flip]) + SEALED[at + 1 :], "td/x509/1")


@pytest.mark.parametrize("cut", [0, 3, 10, 33, len(SEALED) - 1])
def test_a_cut_off_key_is_noticed(cut: int) -> None:
    with pytest.raises(SealError):
        SEALER.open(SEALED[:cut], "td/x509/1")
    with pytest.raises(SealError):
        SEALER.open(SEALED[:4] + bytes(16) + SEALED[20:], "td/x509/1")


def test_nothing_sealed_shows_what_it_is_or_with_what() -> None:
    assert b"the key" not in SEALED
    assert "horse" not in repr(SEALER)
    assert SEALER.seal(b"the key", "td/x509/1") != SEALED


def test_a_short_passphrase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SealError, match="12"):
        Sealer(b"short")
    short = tmp_path / "short"
    write_secret_file(short, b"short\nsecond line that is long enough\n")
    with pytest.raises(SealError, match="first line"):
        read_passphrase(short)


def test_a_passphrase_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "passphrase"
    write_secret_file(path, b"  " + PASSPHRASE + b"\r\nanything\n")
    assert read_passphrase(path) == PASSPHRASE


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o610])
def test_a_secret_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    write_secret_file(path, b"x")
    path.chmod(mode)
    with pytest.raises(SealError, match="chmod 600"):
        read_secret_file(path)


def test_a_secret_is_written_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    before = os.umask(0)
    try:
        write_secret_file(path, b"one")
        write_secret_file(path, b"two")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_secret_file(path) == b"two"
    assert [one.name for one in tmp_path.iterdir()] == ["secret"]


def test_a_folder_or_nothing_is_no_secret(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(SealError):
            read_secret_file(path)


def test_an_offline_key_is_read_with_its_passphrase_alone() -> None:
    key = new_key("ecdsa-p384")
    sealed = key.sealed_pem(PASSPHRASE)
    assert b"ENCRYPTED PRIVATE KEY" in sealed
    assert read_key(sealed, PASSPHRASE).public_key == key.public_key
    for wrong in (None, b"another passphrase"):
        with pytest.raises(UnusableKey):
            read_key(sealed, wrong)
