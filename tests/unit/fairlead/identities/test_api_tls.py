"""The API over HTTPS: whose certificate it shows, that it is renewed, and whom commands believe."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import subprocess
from base64 import b64decode
from pathlib import Path

import pytest
from cryptography import x509

from fairlead.errors import UsageError
from fairlead.processes import Children
from fairlead.security import api_security
from fairlead.settings import Settings
from tests.support.certificates import Authority
from tests.support.programs import FAIRLEAD, Serving, start_serve


def ask(serving: Serving, path: str, context: ssl.SSLContext) -> tuple[bytes, bytes]:
    """An answer, and the certificate of who gave it."""
    connection = http.client.HTTPSConnection("127.0.0.1", serving.api, timeout=10, context=context)
    try:
        connection.request("GET", path)
        body = connection.getresponse().read()
        certificate = connection.sock.getpeercert(binary_form=True) or b""
    finally:
        connection.close()
    return body, certificate


def believing_nobody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def run(serving: Serving, *arguments: str, trusted: Path | None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "FAIRLEAD_SERVER": f"https://127.0.0.1:{serving.api}"}
    env |= {"FAIRLEAD_SERVER_CA": str(trusted)} if trusted is not None else {}
    command = [*FAIRLEAD, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, check=False)


def test_the_api_shows_a_certificate_of_the_authority_that_is_renewed_and_that_commands_believe(
    children: Children, tmp_path: Path
) -> None:
    life = ("--ca-leaf-lifetime", "5", "--ca-leaf-lifetime-min", "5")
    serving = start_serve(children, "--ca", "memory", "--api-tls", *life, ready=False)
    body, _ = ask(serving, "/api/v1/authority/bundle", believing_nobody())
    [root] = [one for key in json.loads(body)["keys"] for one in key.get("x5c", ())]
    file = tmp_path / "root.pem"
    file.write_text(ssl.DER_cert_to_PEM_cert(b64decode(root)))
    trusting = ssl.create_default_context(cafile=str(file))
    _, first = ask(serving, "/healthz", trusting)
    uris = x509.load_der_x509_certificate(first).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    names = uris.value.get_values_for_type(x509.UniformResourceIdentifier)
    assert names == ["spiffe://cluster.local/fairlead/api"]
    children.wait_until(lambda: ask(serving, "/healthz", trusting)[1] != first, what="another certificate", timeout=60)
    printed = run(serving, "ca", "bundle", "--pem", trusted=file)
    assert printed.stdout == file.read_text()
    refused = run(serving, "ca", "status", trusted=None)
    assert refused.returncode != 0
    assert "certificate verify failed" in refused.stderr.lower()
    missing = run(serving, "ca", "status", trusted=tmp_path / "nowhere")
    assert "FAIRLEAD_SERVER_CA" in missing.stderr


def test_the_api_shows_the_certificate_in_files_and_a_new_one_at_the_next_connection(
    children: Children, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    pair, other = authority.server("one"), authority.server("two")
    for one in (pair, other):
        one.key.chmod(0o600)
    given = ("--xds-cert", str(pair.cert), "--xds-key", str(pair.key), "--xds-client-ca", str(authority.ca))
    serving = start_serve(children, *given, "--api-tls", ready=False, secure=True)
    trusting = ssl.create_default_context(cafile=str(authority.ca))
    _, first = ask(serving, "/healthz", trusting)
    other.key.replace(pair.key)
    other.cert.replace(pair.cert)
    _, second = ask(serving, "/healthz", trusting)
    assert first != second


def test_there_must_be_a_certificate_to_show() -> None:
    with pytest.raises(UsageError, match="--api-tls: there is no certificate"):
        api_security(Settings(api_tls=True))
    api_security(Settings(api_tls=True, ca="memory"))
