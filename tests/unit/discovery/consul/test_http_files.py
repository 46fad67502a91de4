"""Files for TLS to an agent and for its token, and what is told of those that are none."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from discovery.consul import http
from discovery.consul.http import Consul, Target, UnreachableError, tls_context
from tests.support.certificates import Authority

URL = "https://127.0.0.1:8501"


def test_what_is_no_pem_is_told_with_its_file(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.server("client")
    bad = tmp_path / "bad.pem"
    bad.write_text("garbage")
    with pytest.raises(UnreachableError, match=f"^{bad} holds no authorities in PEM"):
        tls_context(Target(url=URL, ca_file=str(bad)))
    for certificate, key in ((bad, pair.key), (pair.cert, bad), (pair.cert, tmp_path / "none")):
        with pytest.raises(UnreachableError, match=f"^{certificate} and {key} hold no certificate and its key"):
            tls_context(Target(url=URL, certificate_file=str(certificate), key_file=str(key)))
    files = {"ca_file": str(authority.ca), "certificate_file": str(pair.cert), "key_file": str(pair.key)}
    assert tls_context(Target(url=URL, **files)).get_ca_certs()


def test_an_encrypted_key_is_told_and_nobody_is_asked_for_its_password(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    authority = Authority(tmp_path)
    pair = authority.server("client")
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    sealed = tmp_path / "sealed.pem"
    form = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    sealed.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    with pytest.raises(UnreachableError, match="the key is encrypted"):
        tls_context(Target(url=URL, certificate_file=str(pair.cert), key_file=str(sealed)))


async def test_a_token_whose_file_hangs_costs_the_time_of_a_request_and_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "REQUEST_SECONDS", 0.2)
    file = tmp_path / "token"
    os.mkfifo(file)  # nobody writes: whoever opens it waits, as on a disk that is away
    consul = Consul(Target(url="http://127.0.0.1:1", token_file=str(file)))
    before = threading.active_count()
    try:
        asked = [consul.get("/v1/catalog/services") for _ in range(20)]
        for said in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(said, UnreachableError)
            assert "within 0.2 s" in str(said)
        assert threading.active_count() <= before + 1
    finally:
        await asyncio.to_thread(file.write_text, "secret")
        await consul.close()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"one\ntwo", b"a\x00b", "tök".encode()])
async def test_a_token_that_is_none_is_told_without_showing_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    consul = Consul(Target(url="http://127.0.0.1:1", token_file=str(file)))
    with pytest.raises(UnreachableError, match=f"^the token in {file} is no token$"):
        await consul.get("/v1/catalog/services")
    file.unlink()
    with pytest.raises(UnreachableError, match="No such file"):
        await consul.get("/v1/catalog/services")
    file.mkdir()
    with pytest.raises(UnreachableError, match="Is a directory"):
        await consul.get("/v1/catalog/services")
    await consul.close()
