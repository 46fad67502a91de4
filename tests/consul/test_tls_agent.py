"""A real agent that asks for client certificates (`verify_incoming`) and for tokens, found in and registered with."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from discovery.consul.http import Consul, Target, UnreachableError
from fairlead.client import RefusedError
from fairlead.processes import Children, free_port
from tests.support.certificates import Authority
from tests.support.consul import ConsulAgent
from tests.support.consul_mesh import ConsulMesh, route
from tests.support.consul_server import MANAGEMENT, ConsulServer
from tests.support.programs import FAIRLEAD, start_backend, start_serve

RULES = 'node_prefix "" { policy = "read" } service_prefix "" { policy = "read" } agent_prefix "" { policy = "read" }'
WRITES = 'service_prefix "web" { policy = "write" }'


class Guarded:
    """The server, with its plain port for those who prepare it; and files of a client that it lets in."""

    def __init__(self, children: Children, binary: Path, folder: Path) -> None:
        self.authority = Authority(folder)
        self.client, its = self.authority.server("client"), self.authority.server("agent")
        self.https = free_port()
        config: dict[str, Any] = {
            "acl": {"enabled": True, "default_policy": "deny", "tokens": {"master": MANAGEMENT, "agent": MANAGEMENT}},
            "ca_file": str(self.authority.ca),
            "cert_file": str(its.cert),
            "key_file": str(its.key),
            "verify_incoming": True,
            "verify_outgoing": True,
        }
        server = ConsulServer(children, binary, config=config)
        whole = json.loads(server.config.read_text())
        whole["ports"]["https"] = self.https
        server.config.write_text(json.dumps(whole))
        server.start()
        self.agent = ConsulAgent(server.child, server.port, MANAGEMENT)  # type: ignore[arg-type]
        children.wait_until(self._knows_acls, what="it to know its own ACLs", timeout=60)
        self.token_file = folder / "token"
        self.token_file.write_text(self.token(RULES))

    def _knows_acls(self) -> bool:
        try:
            return bool(self.agent.client.request("GET", "/v1/acl/token/self").json())
        except RefusedError:
            return False

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.https}"

    def token(self, rules: str) -> str:
        """A new token with these rights."""
        name = f"policy-{free_port()}"
        self.agent.put("/v1/acl/policy", {"Name": name, "Rules": rules})
        return str(self.agent.put("/v1/acl/token", {"Policies": [{"Name": name}]})["SecretID"])

    def flags(self, *but: str) -> list[str]:
        """Those of `serve`, without some."""
        given = {"ca": self.authority.ca, "cert": self.client.cert, "key": self.client.key}
        named = {**given, "token-file": self.token_file}
        return [part for name, file in named.items() if name not in but for part in (f"--consul-{name}", str(file))]


@pytest.fixture
def guarded(children: Children, consul: Path, tmp_path: Path) -> Guarded:
    return Guarded(children, consul, tmp_path)


@pytest.mark.envoy
def test_services_are_found_with_a_certificate_and_a_token_which_may_be_replaced(
    children: Children, guarded: Guarded
) -> None:
    first = guarded.agent.register("web", start_backend(children, "web"))
    mesh = ConsulMesh(children, "--consul", guarded.url, *guarded.flags(), objects=[route("web")])
    mesh.wait_ok("web")
    revoked = guarded.token_file.read_text()
    guarded.token_file.write_text(guarded.token(RULES) + "\n")
    found = guarded.agent.client.request("GET", "/v1/acl/tokens").json()
    for each in found:
        if guarded.agent.client.request("GET", f"/v1/acl/token/{each['AccessorID']}").json()["SecretID"] == revoked:
            guarded.agent.client.request("DELETE", f"/v1/acl/token/{each['AccessorID']}")
    second = guarded.agent.register("web", start_backend(children, "web", number="2"))
    guarded.agent.deregister(first)
    mesh.wait(lambda: mesh.count("web", 5).keys() == {"web-v1-2"}, "what changed under the new token", timeout=60)
    mesh.wait(lambda: not mesh.problems(), "nothing to be wrong", timeout=60)
    guarded.agent.deregister(second)
    mesh.wait_gone("web")


@pytest.mark.parametrize(
    ("lacking", "code", "words"),
    [(("cert", "key"), "Unreachable", ""), (("ca",), "Unreachable", "certificate"), (("token-file",), "", "")],
)
def test_without_one_of_them_nothing_is_found_and_it_is_told(
    children: Children, guarded: Guarded, lacking: tuple[str, ...], code: str, words: str
) -> None:
    guarded.agent.register("web", 9000)
    serving = start_serve(children, "--consul", guarded.url, *guarded.flags(*lacking), "--consul-optional")

    def told() -> bool:
        found = [item["problem"] for item in serving.client.get("/api/v1/problems")["items"]]
        return any(each["code"] == code and words in each["message"] for each in found)

    if code:
        children.wait_until(told, what="the problem to be told", timeout=60)
    assert serving.client.get("/api/v1/discovered/services")["items"] == []


def test_instances_register_over_tls_by_command_and_over_rest(
    children: Children, guarded: Guarded, tmp_path: Path
) -> None:
    writes = tmp_path / "writes"
    writes.write_text(guarded.token(WRITES))
    flags = [*guarded.flags("token-file"), "--consul-token-file", str(writes), "--consul", guarded.url]
    command = [*FAIRLEAD, "register", "web", "--address", "127.0.0.1", "--port", "http=9000", "--once", *flags]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert made.returncode == 0, made.stderr
    (found,) = guarded.agent.client.request("GET", "/v1/catalog/service/web").json()
    assert found["ServicePort"] == 9000
    refused = subprocess.run(
        [each for each in command if each not in ("--consul-ca", str(guarded.authority.ca))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode != 0
    assert "certificate" in refused.stderr.lower()

    guarded.token_file.write_text(guarded.token(RULES + WRITES))
    serving = start_serve(children, "--consul", guarded.url, *guarded.flags(), "--registrations", "consul")
    body = {"address": "127.0.0.1", "ports": {"http": 9001}, "ttlSeconds": 60}
    at = "/api/v1/registrations/default/web-rest/one"
    serving.client.request("PUT", at, body=body)
    (found,) = guarded.agent.client.request("GET", "/v1/catalog/service/web-rest").json()
    assert found["ServicePort"] == 9001
    other = at.replace("web-rest", "other")
    with pytest.raises(RefusedError, match="does not let this server register anything") as forbidden:
        serving.client.request("PUT", other, body=body)
    assert forbidden.value.status == 503


async def test_files_that_are_replaced_are_used_once_a_request_has_failed(guarded: Guarded, tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    stranger = Authority(tmp_path / "others").server("client")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def replace(new: tuple[Path, Path]) -> None:
        for file, content in zip((cert, key), new, strict=True):
            file.with_suffix(".new").write_bytes(content.read_bytes())
            file.with_suffix(".new").rename(file)

    async def fails(words: str = ".") -> None:
        with pytest.raises(UnreachableError, match=words):
            await consul.get("/v1/status/leader")

    replace((stranger.cert, stranger.key))
    files = {"ca_file": str(guarded.authority.ca), "certificate_file": str(cert), "key_file": str(key)}
    consul = Consul(Target(url=guarded.url, token_file=str(guarded.token_file), **files))
    try:
        await fails()
        cert.write_text("half of")
        await fails()  # it was asked with what was there before
        await fails(f"{cert} and {key} hold no certificate")
        replace((guarded.client.cert, guarded.client.key))
        assert (await consul.get("/v1/status/leader")).body
        replace((stranger.cert, stranger.key))
        assert (await consul.get("/v1/status/leader")).body, "what is open stays open"
    finally:
        await consul.close()
