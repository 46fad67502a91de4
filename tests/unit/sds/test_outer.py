"""Outer authorities: Vault by what it answers (recorded forms, over real HTTP), and signers in Kubernetes.

`tests/kubernetes/test_certificate_requests.py` asks a real API server. No Vault runs here: what it answers is written
after its documentation (api-docs/secret/pki).
"""

# ruff: noqa: ASYNC240 - small files of a test

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mesh.spiffe import SpiffeId, TrustDomain
from sds.authority import AuthorityUnavailable, RefusedIssue
from sds.certificates import Signer, general_names, to_pem
from sds.keys import new_key, request_for
from sds.kubernetes_csr import PATH, KubernetesAuthority
from sds.lifetimes import Lifetimes
from sds.outer import request_pem
from sds.vault import VaultAuthority
from tests.support.outer import caller
from tests.support.vault import ROOT, SIGNER, Answer, Vault, clock, hierarchy

TD = TrustDomain("example.org")
NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
REVIEWS = SpiffeId(TD, "/ns/shop/sa/reviews")
ORDERS = SpiffeId(TD, "/ns/shop/sa/orders")


@pytest.fixture
def vault() -> Iterator[Vault]:
    started = Vault()
    yield started
    started.close()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text("s.token\n")
    return path


async def vaulted(vault: Vault, token: Path) -> VaultAuthority:
    url = f"http://127.0.0.1:{vault.server.server_port}"
    made = VaultAuthority(TD, url, "pki", "mesh", token, lifetimes=Lifetimes(), clock=clock)
    await made.open()
    return made


async def test_vault_signs_with_the_names_that_we_give_it(vault: Vault, token: Path) -> None:
    authority = await vaulted(vault, token)
    assert authority.bundle().roots == (to_pem(ROOT.certificate),)
    asks = caller(REVIEWS)
    issued = await authority.issue(
        asks.public_key, REVIEWS, dns_names=("a.b", "10.0.0.1"), lifetime=DAY, request=asks.request
    )
    leaf, above = x509.load_pem_x509_certificates(issued.chain)
    assert (leaf.public_key(), above) == (asks.public_key, SIGNER.certificate)
    _, path, _, body = vault.asked[-1]
    assert path == "/v1/pki/sign/mesh"
    assert (body["uri_sans"], body["alt_names"], body["ip_sans"], body["ttl"]) == (
        str(REVIEWS),
        "a.b",
        "10.0.0.1",
        "86400s",
    )


def _data(**fields: Any) -> Callable[[Answer], Answer]:
    return lambda answer: (200, {**answer[1], "data": {**answer[1]["data"], **fields}})


def _leaf(identity: SpiffeId, signer: Signer, life: dt.timedelta = DAY) -> str:
    return signer.issue(KEY.public_key, identity, now=NOW, lifetime=life).chain.decode()


KEY = new_key()
STRANGER = hierarchy()[1]


@pytest.mark.parametrize(
    ("change", "error", "why"),
    {
        "refused": (lambda _: (400, {"errors": ["role forbids it"]}), RefusedIssue, "role forbids it"),
        "sealed": (lambda _: (503, {"errors": ["Vault is sealed"]}), AuthorityUnavailable, "Vault is sealed"),
        "garbage": (lambda _: (200, b"<html>"), AuthorityUnavailable, "none of its PKI"),
        "a list": (lambda _: (200, []), AuthorityUnavailable, "none of its PKI"),
        "much": (lambda _: (200, b" " * (2 << 20)), AuthorityUnavailable, "answered 200"),
        "no certificate": (_data(certificate="x", ca_chain=[]), AuthorityUnavailable, "another key"),
        "nothing": (_data(certificate=None, ca_chain=None, issuing_ca=None), AuthorityUnavailable, "no certificate"),
        "another identity": (_data(certificate=_leaf(ORDERS, SIGNER)), AuthorityUnavailable, "not the identity"),
        "another authority": (_data(certificate=_leaf(REVIEWS, STRANGER)), AuthorityUnavailable, "not lead to a root"),
        "a long life": (_data(certificate=_leaf(REVIEWS, SIGNER, 30 * DAY)), AuthorityUnavailable, "longer"),
    }.values(),
)
async def test_what_vault_answers_is_judged(vault: Vault, token: Path, change: Any, error: Any, why: str) -> None:
    authority = await vaulted(vault, token)
    vault.change = change
    with pytest.raises(error, match=why):
        await authority.issue(KEY.public_key, REVIEWS, request=request_for(KEY, REVIEWS))


async def test_a_certificate_for_another_key_reaches_nobody(vault: Vault, token: Path) -> None:
    authority = await vaulted(vault, token)
    vault.change = _data(certificate=_leaf(REVIEWS, SIGNER))
    asks = caller(REVIEWS)
    with pytest.raises(AuthorityUnavailable, match="another key"):
        await authority.issue(asks.public_key, REVIEWS, request=asks.request)


async def test_the_token_is_read_for_each_request_and_never_told(vault: Vault, token: Path) -> None:
    authority = await vaulted(vault, token)
    asks = caller(REVIEWS)
    token.write_text("s.old\n")
    with pytest.raises(AuthorityUnavailable, match="permission denied") as refused:
        await authority.issue(asks.public_key, REVIEWS, request=asks.request)
    assert "s.old" not in str(refused.value)
    token.write_text("s.token\n")
    await authority.issue(asks.public_key, REVIEWS, request=asks.request)
    token.chmod(0o644)
    with pytest.raises(AuthorityUnavailable, match="chmod 600"):
        await authority.issue(asks.public_key, REVIEWS, request=asks.request)


async def test_a_vault_that_is_away_is_told(vault: Vault, token: Path) -> None:
    authority = await vaulted(vault, token)
    vault.close()
    asks = caller(REVIEWS)
    with pytest.raises(AuthorityUnavailable, match="cannot be asked"):
        await authority.issue(asks.public_key, REVIEWS, request=asks.request)
    vault.server, vault.thread = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler), threading.Thread()
    vault.thread = threading.Thread(target=vault.server.serve_forever, args=(0.01,))
    vault.thread.start()


async def test_lives_and_names_are_judged_before_vault_is_asked(vault: Vault, token: Path) -> None:
    authority = await vaulted(vault, token)
    asks, before = caller(REVIEWS), len(vault.asked)
    for more in ({"lifetime": 8 * DAY}, {"dns_names": ("a,b",)}, {"request": None}, {"request": b"x"}):
        with pytest.raises(RefusedIssue):
            await authority.issue(asks.public_key, REVIEWS, **{"request": asks.request, **more})  # type: ignore[arg-type]
    with pytest.raises(RefusedIssue, match="not signed with the key"):
        await authority.issue(asks.public_key, REVIEWS, request=caller(REVIEWS).request)
    assert len(vault.asked) == before


# -- requests ---------------------------------------------------------------------------------------------------------


def test_a_request_that_asks_for_more_than_the_identity_is_refused() -> None:
    """Kubernetes' signers take names from it, so what it says is what somebody becomes."""
    good = caller(REVIEWS)
    assert request_pem(good.request, good.public_key, REVIEWS, names_needed=True).startswith(b"-----BEGIN")
    other = caller(REVIEWS, asks_for=ORDERS)
    with pytest.raises(RefusedIssue, match="nothing else"):
        request_pem(other.request, other.public_key, REVIEWS, names_needed=True)
    key = new_key()
    uri = x509.UniformResourceIdentifier(str(REVIEWS))
    empty = x509.Name([])
    named = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "admin")])
    base = x509.CertificateSigningRequestBuilder()
    for builder in (
        base.subject_name(named).add_extension(x509.SubjectAlternativeName([uri]), critical=True),
        base.subject_name(empty).add_extension(x509.SubjectAlternativeName([uri, x509.DNSName("a")]), critical=True),
        base.subject_name(empty).add_extension(x509.SubjectAlternativeName([uri, uri]), critical=True),
        base.subject_name(empty)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True),
        base.subject_name(empty),
    ):
        request = builder.sign(key.key, key.digest).public_bytes(Encoding.DER)
        with pytest.raises(RefusedIssue, match="nothing else"):
            request_pem(request, key.public_key, REVIEWS, names_needed=True)


def test_a_request_of_a_version_that_does_not_exist_is_refused() -> None:
    """Found by fuzzing: `cryptography` raises an error of its own kind over it."""
    good = caller(REVIEWS)
    odd = good.request.replace(b"\x02\x01\x00", b"\x02\x01\x7e", 1)
    with pytest.raises(RefusedIssue, match="cannot be read"):
        request_pem(odd, good.public_key, REVIEWS, names_needed=True)


# -- Kubernetes ----------------------------------------------------------------------------------------------------


class _ApiError(Exception):
    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.status = int(words.partition(":")[0])


class Api:
    """As much of an API server as the certificates API is, with a signer that answers approved requests."""

    def __init__(self, signer: Signer = SIGNER) -> None:
        self.objects: dict[str, Any] = {}
        self.signer = signer
        self.denies = ""
        self.fails = False
        self.leaves_names_out = False
        self.writes_between = 0
        """How many approvals find that somebody else has written to the request since it was read."""
        self.seen: list[Any] = []

    async def request(self, method: str, path: str, *, body: bytes | None = None) -> bytes:
        await asyncio.sleep(0)
        if self.fails:
            raise _ApiError("503: no")
        value = json.loads(body) if body else None
        name = path.removeprefix(PATH).strip("/").removesuffix("/approval")
        match method:
            case "POST":
                name = f"{value['metadata']['generateName']}{len(self.seen)}"
                self.objects[name] = {**value, "metadata": {"name": name, "resourceVersion": "1"}}
                self.seen.append(value)
            case "PUT":
                assert path.endswith("/approval")
                present = self.objects[name]["metadata"]
                if self.writes_between:
                    self.writes_between -= 1
                    present["resourceVersion"] = str(int(present["resourceVersion"]) + 1)
                if value["metadata"]["resourceVersion"] != present["resourceVersion"]:
                    raise _ApiError("409: the object has been modified")
                self.objects[name] = value
                self._sign(value)
            case "DELETE":
                return json.dumps(self.objects.pop(name)).encode()
        return json.dumps(self.objects[name]).encode()

    def _sign(self, value: Any) -> None:
        if self.denies:
            value["status"]["conditions"].append({"type": "Failed", "status": "True", "message": self.denies})
            return
        asked = x509.load_pem_x509_csr(base64.b64decode(value["spec"]["request"]))
        names = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        [uri] = names.get_values_for_type(x509.UniformResourceIdentifier)
        life = dt.timedelta(seconds=value["spec"]["expirationSeconds"])
        dns = () if self.leaves_names_out else tuple(names.get_values_for_type(x509.DNSName))
        identity = SpiffeId.parse(uri)
        chain = self.signer.issue(asked.public_key(), identity, now=clock(), lifetime=life, dns_names=dns).chain
        value["status"]["certificate"] = base64.b64encode(chain).decode()


async def signed_in(api: Api, tmp_path: Path) -> KubernetesAuthority:
    roots = tmp_path / "roots.pem"
    roots.write_bytes(to_pem(ROOT.certificate))
    made = KubernetesAuthority(
        TD, lambda: api, "example.org/mesh", roots, failures=(_ApiError,), lifetimes=Lifetimes(), clock=clock
    )
    await made.open()
    return made


async def test_a_signer_in_kubernetes_is_asked_approved_and_tidied_up_after(tmp_path: Path) -> None:
    api = Api()
    authority = await signed_in(api, tmp_path)
    asks = caller(REVIEWS)
    issued = await authority.issue(asks.public_key, REVIEWS, request=asks.request)
    assert x509.load_pem_x509_certificates(issued.chain)[0].public_key() == asks.public_key
    assert api.objects == {}
    [made] = api.seen
    assert made["spec"]["signerName"] == "example.org/mesh"
    assert made["spec"]["expirationSeconds"] == 86_400
    assert made["spec"]["usages"] == ["digital signature", "server auth", "client auth"]


@pytest.mark.parametrize(
    ("denies", "fails", "signer", "error", "why"),
    [
        ("no", False, SIGNER, RefusedIssue, "refused: no"),
        ("", True, SIGNER, AuthorityUnavailable, "cannot be asked to sign"),
        ("", False, STRANGER, AuthorityUnavailable, "not lead to a root"),
    ],
)
async def test_what_the_cluster_answers_is_judged(
    tmp_path: Path, denies: str, fails: bool, signer: Signer, error: Any, why: str
) -> None:
    api = Api(signer)
    authority = await signed_in(api, tmp_path)
    api.denies, api.fails = denies, fails
    asks = caller(REVIEWS)
    with pytest.raises(error, match=why):
        await authority.issue(asks.public_key, REVIEWS, request=asks.request)
    assert api.objects == {}


async def test_a_request_for_somebody_else_never_reaches_the_cluster(tmp_path: Path) -> None:
    api = Api()
    authority = await signed_in(api, tmp_path)
    asks = caller(REVIEWS, asks_for=ORDERS)
    with pytest.raises(RefusedIssue):
        await authority.issue(asks.public_key, REVIEWS, request=asks.request)
    good = caller(REVIEWS)
    with pytest.raises(RefusedIssue, match=r"must ask for .*, a\.b and nothing else"):
        await authority.issue(good.public_key, REVIEWS, dns_names=("a.b",), request=good.request)
    assert api.seen == []


async def test_a_request_that_others_write_to_meanwhile_is_approved_as_what_it_has_become(tmp_path: Path) -> None:
    api = Api()
    authority = await signed_in(api, tmp_path)
    api.writes_between = 3
    asks = caller(REVIEWS)
    issued = await authority.issue(asks.public_key, REVIEWS, request=asks.request)
    assert x509.load_pem_x509_certificates(issued.chain)[0].public_key() == asks.public_key
    api.writes_between = 1_000
    with pytest.raises(AuthorityUnavailable, match="written to faster than it can be approved"):
        await authority.issue(asks.public_key, REVIEWS, request=asks.request)
    assert api.objects == {}


async def test_a_server_of_ours_gets_its_names_where_its_request_asks_for_them(tmp_path: Path) -> None:
    api = Api()
    authority = await signed_in(api, tmp_path)
    key, names = new_key(), ("fairlead.home.svc",)
    request = request_for(key, REVIEWS, general_names(names))
    issued = await authority.issue(key.public_key, REVIEWS, dns_names=names, request=request)
    leaf = x509.load_pem_x509_certificates(issued.chain)[0]
    found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert found.get_values_for_type(x509.DNSName) == ["fairlead.home.svc"]
    with pytest.raises(RefusedIssue, match="and nothing else"):
        await authority.issue(key.public_key, REVIEWS, request=request)
    api.leaves_names_out = True
    with pytest.raises(AuthorityUnavailable, match=r"left names out that were asked for: fairlead\.home\.svc"):
        await authority.issue(key.public_key, REVIEWS, dns_names=names, request=request)


async def test_new_roots_in_the_file_are_trusted(tmp_path: Path) -> None:
    authority = await signed_in(Api(), tmp_path)
    told: list[int] = []
    authority.listen(lambda: told.append(len(authority.bundle().roots)))
    (tmp_path / "roots.pem").write_bytes(to_pem(ROOT.certificate) + to_pem(STRANGER.root))
    await authority.open()
    (tmp_path / "roots.pem").write_bytes(b"half")
    with pytest.raises(AuthorityUnavailable):
        await authority.open()
    assert told == [2]
    assert len(authority.bundle().roots) == 2
