"""Our trust domain and a real SPIRE's believe each other: bundles over HTTPS, in both profiles, both ways."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509

from fairlead.processes import Children, free_port
from tests.support.certificates import Authority
from tests.support.programs import FAIRLEAD, Serving, start_serve
from tests.support.spire import Spire
from tests.support.xds_client import Client, node
from xds.schema.type_urls import TYPE_SECRET
from xds.schema.types import Secret

OURS, THEIRS = "ours.test", "example.org"
PROFILES = ("https_web", "https_spiffe")


def certificates(pem: str) -> set[x509.Certificate]:
    return set(x509.load_pem_x509_certificates(pem.encode()))


def bundle(serving: Serving, folder: Path) -> Path:
    """Our bundle as an operator carries it over."""
    command = [*FAIRLEAD, "ca", "bundle", "--server", f"http://127.0.0.1:{serving.api}"]
    path = folder / "ours.json"
    path.write_text(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)
    return path


def roots(serving: Serving) -> set[x509.Certificate]:
    keys = json.loads(serving.client.request("GET", "/api/v1/authority/bundle").body)["keys"]
    ders = (base64.b64decode(one) for key in keys for one in key.get("x5c", ()))
    return {x509.load_der_x509_certificate(der) for der in ders}


async def told(serving: Serving) -> set[x509.Certificate]:
    """What proxies are told to believe of SPIRE's trust domain."""
    async with Client(serving.xds) as client:
        name = f"ROOTCA:{THEIRS}"
        await client.send(TYPE_SECRET, node=node(), subscribe=[name])
        response = await client.receive()
        [secret] = [Secret.FromString(one.resource.value) for one in response.resources]
        return certificates(secret.validation_context.trusted_ca.inline_bytes.decode())


class Both:
    """SPIRE and our server, each with the other's bundle endpoint."""

    def __init__(self, children: Children, programs: dict[str, Path], profile: str) -> None:
        self.children = children
        folder = children.folder
        web = Authority(folder)
        server = web.server("localhost")
        server.key.chmod(0o600)
        ours, theirs = free_port(), free_port()
        files = f'cert_file_path = "{server.cert}" key_file_path = "{server.key}"'
        serving_by = f'serving_cert_file {{ {files} file_sync_interval = "1m" }}'
        expects = f'endpoint_spiffe_id = "spiffe://{OURS}/fairlead/bundle-endpoint"'
        by_web = profile == "https_web"
        more = f"""
  federation {{
    bundle_endpoint {{
      address = "127.0.0.1" port = {theirs} refresh_hint = "10s"
      profile "{profile}" {{ {serving_by if by_web else ""} }}
    }}
    federates_with "{OURS}" {{
      bundle_endpoint_url = "https://localhost:{ours}/"
      bundle_endpoint_profile "{profile}" {{ {"" if by_web else expects} }}
    }}
  }}"""
        self.spire = Spire(children, programs, THEIRS, more=more, env={"SSL_CERT_FILE": str(web.ca)})
        self.spire.start_server()
        where = f"{THEIRS}=https://localhost:{theirs}/"
        flags: Sequence[str] = ("--bundle-cert", str(server.cert), "--bundle-key", str(server.key))
        if not by_web:
            first = folder / "theirs.json"
            first.write_text(self.spire.server("bundle", "show", "-format", "spiffe"))
            where += f";{self.spire.id('/spire/server')};{first}"
            flags = ()
        self.serving = start_serve(
            children, "--trust-domain", OURS, "--ca", "memory", "--bundle-endpoint", f"127.0.0.1:{ours}",
            "--federate", where, "--federate-ca", str(web.ca), "--ca-settle-time", "1", *flags,
        )  # fmt: skip
        if not by_web:
            path = bundle(self.serving, folder)
            self.spire.server("bundle", "set", "-id", f"spiffe://{OURS}", "-path", str(path), "-format", "spiffe")

    def status(self) -> dict[str, object]:
        [one] = self.serving.client.get("/api/v1/federation")["items"]
        return dict(one)

    def wait_until_proxies_are_told(self) -> None:
        """They hear of a bundle just after the API does."""
        theirs = certificates(self.spire.server("bundle", "show"))
        self.children.wait_until(lambda: asyncio.run(told(self.serving)) == theirs, what="proxies to be told")

    def theirs_of_us(self) -> set[x509.Certificate]:
        self.spire.server("federation", "refresh", "-id", f"spiffe://{OURS}")
        listed = self.spire.server("bundle", "list", "-id", f"spiffe://{OURS}")
        return certificates(listed[listed.index("-----BEGIN") :]) if "-----BEGIN" in listed else set()


@pytest.mark.parametrize("profile", PROFILES)
def test_a_real_spire_and_we_follow_each_others_bundles(
    children: Children, spire_binaries: dict[str, Path], profile: str
) -> None:
    both = Both(children, spire_binaries, profile)
    children.wait_until(lambda: both.status()["roots"] == 1 and not both.status()["problem"], what="SPIRE's bundle")
    assert both.status()["profile"] == profile
    both.wait_until_proxies_are_told()
    children.wait_until(lambda: both.theirs_of_us() == roots(both.serving), what="SPIRE to have our bundle")

    both.serving.client.request("POST", "/api/v1/authority/prepare", body={})
    assert len(roots(both.serving)) == 2
    children.wait_until(lambda: both.theirs_of_us() == roots(both.serving), what="SPIRE to have our new root")

    both.spire.server("localauthority", "x509", "prepare")
    children.wait_until(lambda: both.status()["roots"] == 2, what="SPIRE's new root", timeout=60)
    both.wait_until_proxies_are_told()
