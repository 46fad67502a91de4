"""The xDS server's certificate from a Workload API that answers well, badly, and not at all."""

from __future__ import annotations

import datetime as dt
import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from fairlead.errors import CommandError, UsageError
from fairlead.identities.workload_api import WorkloadApi
from fairlead.processes import Children
from fairlead.security import xds_security
from fairlead.settings import Settings
from mesh.spiffe import SpiffeId, TrustDomain
from sds.certificates import Signer, new_root
from sds.keys import SigningKey, new_key
from sds.workload_api import UnusableSvid, read_svid
from tests.support.programs import start_serve
from xds.schema import message

DOMAIN = TrustDomain("example.org")
US = SpiffeId(DOMAIN, "/fairlead/xds")
NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
Response = message("fairlead.workload.v1.X509SvidResponse")
Answers = queue.Queue[bytes | None]


def der(pem: bytes) -> bytes:
    return b"".join(one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(pem))


def answer(
    root: Signer, identity: SpiffeId = US, *, key: SigningKey | None = None, of: SigningKey | None = None
) -> Any:
    """An answer; `of` is the key that it is sent with where that is not the certificate's."""
    made = key or new_key()
    chain = root.issue(made.public_key, identity, now=NOW, lifetime=DAY).chain
    private: Any = load_pem_private_key((of or made).pem().pem, None)
    response = Response()
    svid = response.svids.add()
    svid.spiffe_id = str(identity)
    svid.x509_svid = der(chain)
    svid.x509_svid_key = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    svid.bundle = root.certificate.public_bytes(Encoding.DER)
    return response


@pytest.fixture(scope="module")
def root() -> Signer:
    return new_root(DOMAIN, new_key(), now=NOW, lifetime=30 * DAY, above=0)


class Api:
    """A Workload API on a socket; `put` sends an answer to who asked last, or asks first, and None ends the stream."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata: list[Any] = []
        self._answers = Answers()
        self._first: Answers | None = self._answers
        self._server = grpc.server(ThreadPoolExecutor(4))
        handler = grpc.unary_stream_rpc_method_handler(self._stream)
        handlers = grpc.method_handlers_generic_handler("SpiffeWorkloadAPI", {"FetchX509SVID": handler})
        self._server.add_generic_rpc_handlers((handlers,))
        self._server.add_insecure_port(f"unix:{path}")
        self._server.start()

    def put(self, answer: Any) -> None:
        self._answers.put(answer.SerializeToString() if answer is not None else None)

    def _stream(self, _request: bytes, context: Any) -> Iterator[bytes]:
        # Each has its own: a stream whose client has gone would take the answer for the next.
        mine = self._first or Answers()
        self._first, self._answers = None, mine
        context.add_callback(lambda: mine.put(None))
        self.metadata.append(dict(context.invocation_metadata()))
        while (answer := mine.get()) is not None:
            yield answer

    def stop(self) -> None:
        self.put(None)
        self._server.stop(0).wait()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = Api(tmp_path / "api.sock")
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def clients(monkeypatch: pytest.MonkeyPatch, api: Api) -> Iterator[None]:
    """None of them goes on when its test is over, nor sees the API go then."""
    opened: list[WorkloadApi] = []
    opens = WorkloadApi.open

    def noted(self: WorkloadApi, **seconds: float) -> None:
        opened.append(self)
        opens(self, **seconds)

    monkeypatch.setattr(WorkloadApi, "open", noted)
    yield
    for each in opened:
        each.close()


def test_what_comes_is_shown_and_what_is_bad_changes_nothing(api: Api, root: Signer, children: Children) -> None:
    client = WorkloadApi(f"unix://{api.path}", DOMAIN)
    first = answer(root)
    api.put(first)
    client.open(seconds=20)
    shown = client()
    assert der(shown.chain) == first.svids[0].x509_svid
    assert der(shown.client_ca) == first.svids[0].bundle
    assert api.metadata[0]["workload.spiffe.io"] == "true"
    api.put(answer(root, of=new_key()))  # ends the stream of a client that cannot use it; it comes back
    children.wait_until(lambda: len(api.metadata) == 2, what="the client to come back")
    assert client() == shown
    second = answer(root)
    api.put(second)
    children.wait_until(lambda: der(client().chain) == second.svids[0].x509_svid, what="the next certificate")
    assert "PRIVATE" not in repr(client())


def test_an_api_that_is_away_and_a_certificate_that_ends_meanwhile_are_told(
    api: Api, root: Signer, children: Children
) -> None:
    now = [NOW]
    client = WorkloadApi(str(api.path), DOMAIN, clock=lambda: now[0])
    api.put(answer(root))
    client.open(seconds=20)
    assert client.problems() == []
    assert client.numbers()["followed"] == 1
    assert 0 <= DAY.total_seconds() - client.numbers()["left"] < 1
    api.put(Response())
    children.wait_until(lambda: bool(client.problems()), what="the trouble")
    [(source, problem)] = client.problems()
    assert (source, problem.code, problem.level) == ("workload-api", "WorkloadApiAway", "warning")
    assert "no identity for this program" in problem.message
    assert "what is in force stands until 20" in problem.message
    assert client.numbers()["followed"] == 0
    now[0] += DAY
    [(_, problem)] = client.problems()
    assert (problem.code, problem.level) == ("CertificateEnded", "error")
    assert client.numbers()["left"] <= 0
    now[0] -= DAY
    children.wait_until(lambda: len(api.metadata) == 2, what="the client to come back")
    api.put(answer(root))
    children.wait_until(lambda: client.problems() == [], what="the trouble to be over")


def test_a_server_that_runs_tells_people_and_metrics_that_the_api_is_away(
    api: Api, root: Signer, children: Children
) -> None:
    api.put(answer(root))
    flags = ("--xds-workload-api", str(api.path), "--trust-domain", DOMAIN.name)
    client = start_serve(children, *flags, secure=True).client

    def followed(now: int) -> bool:
        page = client.request("GET", "/metrics").body.decode()
        return f"fairlead_workload_api_followed {now}.0" in page

    def told() -> bool:
        return "WorkloadApiAway" in str(client.get("/api/v1/problems"))

    assert followed(1)
    assert not told()
    api.put(Response())
    children.wait_until(lambda: followed(0) and told(), what="the trouble to be told")
    assert client.request("GET", "/readyz").status == 200, "proxies are served all the same"
    children.wait_until(lambda: len(api.metadata) == 2, what="the server to come back")
    api.put(answer(root))
    children.wait_until(lambda: followed(1) and not told(), what="it to be over")


def test_without_an_api_or_an_identity_the_server_does_not_start(api: Api, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"no certificate from .*nobody\.sock in 1 s: UNAVAILABLE"):
        WorkloadApi(str(tmp_path / "nobody.sock"), DOMAIN).open(seconds=1)
    api.put(Response())
    with pytest.raises(CommandError, match="no identity for this program"):
        WorkloadApi(str(api.path), DOMAIN).open(seconds=2)


def test_an_answer_that_cannot_be_us_is_refused_with_the_reason(root: Signer) -> None:
    elsewhere = TrustDomain("elsewhere.org")
    stranger = new_root(elsewhere, new_key(), now=NOW, lifetime=30 * DAY, above=0)
    broken, cut, endless, alone = answer(root), answer(root), answer(root), answer(root)
    broken.svids[0].spiffe_id = "https://example.org/"
    cut.svids[0].x509_svid = cut.svids[0].x509_svid[:-1]
    endless.svids[0].bundle = b"\x30\x84\xff\xff\xff\xff" + bytes(10)
    alone.svids[0].ClearField("bundle")
    for made, why in (
        (answer(stranger, SpiffeId(elsewhere, "/fairlead/xds")), "not of our trust domain"),
        (answer(root, of=new_key()), "its key is another one's"),
        (broken, "cannot be read"),
        (cut, "cannot be read"),
        (endless, "cannot be read"),
        (alone, "nobody to believe"),
    ):
        with pytest.raises(UnusableSvid, match=why):
            read_svid(made.SerializeToString(), DOMAIN)
    with pytest.raises(UnusableSvid, match="cannot be decoded"):
        read_svid(b"\xff", DOMAIN)


@pytest.mark.parametrize("other", [{"ca": "memory"}, {"insecure_xds": True}, {"xds_cert": "c.pem"}])
def test_two_ways_to_a_certificate_are_one_too_many(other: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="another way"):
        xds_security(Settings(xds_workload_api="/run/spire/agent.sock", **other))
