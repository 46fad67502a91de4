"""Files for TLS to an agent, and what is told of those that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from discovery.consul.http import Target, UnreachableError, tls_context
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
