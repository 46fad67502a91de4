"""The connection against a real HTTP server that behaves as told; the real API server is in `tests/kubernetes`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

pytest.importorskip("aiohttp")

from aiohttp import web

from discovery.kubernetes import connection
from discovery.kubernetes.api import MERGE_PATCH, ApiError, UnreachableError
from discovery.kubernetes.connection import Connection
from discovery.kubernetes.credentials import Access
from tests.support.certificates import Authority

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
DEADLINE = 20.0


class Given:
    """Credentials that are what the test says; counts how often they were refused."""

    def __init__(self, access: Access, *later: Access) -> None:
        self.access = access
        self.later = list(later)
        self.refused = 0

    async def load(self, *, refused: bool = False) -> Access:
        if refused:
            self.refused += 1
            if self.later:
                self.access = self.later.pop(0)
        return self.access


@contextlib.asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"{'https' if tls else 'http'}://{host}:{port}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def connected(access: Access, *later: Access) -> AsyncIterator[Connection]:
    made = Connection(Given(access, *later))
    try:
        async with asyncio.timeout(DEADLINE):
            yield made
    finally:
        await made.close()


async def lines_of(api: Connection, *, idle: float = 5.0) -> list[bytes]:
    found: list[bytes] = []
    await read(api, found, idle=idle)
    return found


async def read(api: Connection, found: list[bytes], *, idle: float = 5.0) -> None:
    async with aclosing(api.lines("/api/v1/pods", query={"watch": "1"}, idle_timeout=idle)) as lines:
        async for line in lines:
            found.append(line)  # noqa: PERF401 - what came before an error is kept


def watch(*parts: bytes, cut: bool = False) -> Handler:
    """A handler that streams these parts, each by itself, and ends well or cut off."""

    async def handle(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        for part in parts:
            await answer.write(part)
            await asyncio.sleep(0)
        if cut:
            assert request.transport is not None
            request.transport.abort()
        return answer

    return handle


async def test_a_request_carries_path_query_body_and_who_we_are() -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        said = (request.method, request.path_qs, request.headers["Authorization"], request.headers["Content-Type"])
        return web.Response(text=f"{said} {await request.text()}")

    async with serving(handle) as url, connected(Access(url, "Bearer t")) as api:
        body = await api.request("PATCH", "/api/v1/x", query={"a": "b c"}, body=b"{}", content_type=MERGE_PATCH)
    assert body == b"('PATCH', '/api/v1/x?a=b+c', 'Bearer t', 'application/merge-patch+json') {}"


async def test_a_refusal_is_told_with_status_reason_message_and_when_to_come_back() -> None:
    async def handle(_: web.Request) -> web.StreamResponse:
        body = {"kind": "Status", "reason": "TooManyRequests", "message": "slow\ndown"}
        return web.json_response(body, status=429, headers={"Retry-After": "3"})

    async with serving(handle) as url, connected(Access(url)) as api:
        with pytest.raises(ApiError) as raised:
            await api.request("GET", "/x")
    error = raised.value
    assert (error.status, error.reason, error.message, error.retry_after) == (429, "TooManyRequests", "slow down", 3.0)


@pytest.mark.parametrize("body", [b"<html>bad gateway</html>", b"", b"[1]", b"\xff\xfe", b'{"reason": 7}'])
async def test_a_refusal_that_is_no_status_of_kubernetes_is_told_all_the_same(body: bytes) -> None:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.Response(status=502, body=body)

    async with serving(handle) as url, connected(Access(url)) as api:
        with pytest.raises(ApiError, match="502"):
            await api.request("GET", "/x")


async def test_a_token_that_has_expired_is_renewed_once_and_the_request_repeated() -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok", status=200 if request.headers["Authorization"] == "Bearer new" else 401)

    async with serving(handle) as url:
        async with connected(Access(url, "Bearer old"), Access(url, "Bearer new")) as api:
            answers = await asyncio.gather(*(api.request("GET", "/x") for _ in range(20)))
            assert set(answers) == {b"ok"}
            assert isinstance(api._credentials, Given)
            assert api._credentials.refused == 1, "of many that were refused one renews for all"
        async with connected(Access(url, "Bearer old")) as api:
            with pytest.raises(ApiError, match="401"):
                await api.request("GET", "/x")


async def test_a_watch_tells_that_it_is_open_and_then_every_line_however_it_was_cut_up() -> None:
    handler = watch(b'{"a"', b":1}\n", b'{"b":2}\n{"c":', b"3}\n\n", b'{"half"')
    async with serving(handler) as url, connected(Access(url)) as api:
        assert await lines_of(api) == [b"", b'{"a":1}', b'{"b":2}', b'{"c":3}']


async def test_a_watch_that_is_cut_off_says_so_after_its_whole_lines() -> None:
    async with serving(watch(b'{"a":1}\n{"b"', cut=True)) as url, connected(Access(url)) as api:
        found: list[bytes] = []
        with pytest.raises(UnreachableError):
            await read(api, found)
    assert found[:1] == [b""]
    assert found[1:] in ([], [b'{"a":1}'])


async def test_a_watch_that_is_refused_raises_before_it_is_open() -> None:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.json_response({"reason": "Expired", "message": "too old"}, status=410)

    async with serving(handle) as url, connected(Access(url)) as api:
        with pytest.raises(ApiError, match="410 Expired"):
            await lines_of(api)


async def test_a_watch_on_which_nothing_comes_is_dead_after_its_idle_time() -> None:
    ended = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await ended.wait()
        return answer

    async with serving(handle) as url, connected(Access(url)) as api:
        with pytest.raises(UnreachableError, match=r"nothing came .* for 0\.05 s"):
            await lines_of(api, idle=0.05)
        ended.set()


async def test_a_line_without_end_and_a_body_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_LINE", 1000)
    monkeypatch.setattr(connection, "MAX_BODY", 1000)
    async with serving(watch(*[b"x" * 100] * 100)) as url, connected(Access(url)) as api:
        with pytest.raises(UnreachableError, match="longer than 1000 bytes"):
            await lines_of(api)
        with pytest.raises(UnreachableError, match="longer than 1000 bytes"):
            await api.request("GET", "/x")


async def test_a_server_that_does_not_answer_is_given_up_in_time() -> None:
    ended = asyncio.Event()

    async def handle(_: web.Request) -> web.StreamResponse:
        await ended.wait()
        return web.Response()

    async with serving(handle) as url, connected(Access(url)) as api:
        with pytest.raises(UnreachableError, match=r"no answer to GET /x within 0\.05 s"):
            await api.request("GET", "/x", timeout=0.05)
        ended.set()


@pytest.mark.parametrize(
    "server", ["http://127.0.0.1:1", "http://no.such.host.invalid", "no url", "ftp://x", "http://"]
)
async def test_a_server_that_cannot_be_reached_is_an_error_that_says_so(server: str) -> None:
    async with connected(Access(server)) as api:
        with pytest.raises(UnreachableError, match=r"\w"):
            await api.request("GET", "/x")
        with pytest.raises(UnreachableError, match=r"\w"):
            await lines_of(api)


async def test_redirects_are_not_followed_for_they_would_carry_the_token_away() -> None:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"})

    async with serving(handle) as url, connected(Access(url, "Bearer t")) as api:
        with pytest.raises(ApiError, match="302"):
            await api.request("GET", "/x")


async def answer_ok(_: web.Request) -> web.StreamResponse:
    return web.Response(text="ok")


def server_tls(authority: Authority, *, clients: bool = False) -> ssl.SSLContext:
    pair = authority.server("api")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.cert, pair.key)
    if clients:
        context.load_verify_locations(authority.ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_a_certificate_of_the_clusters_authority_is_trusted_and_no_other(tmp_path: Path) -> None:
    ours, other = Authority(tmp_path), Authority(tmp_path, "other-ca")
    async with serving(answer_ok, server_tls(ours)) as url:
        async with connected(Access(url, ca=ours.ca.read_bytes())) as api:
            assert await api.request("GET", "/x") == b"ok"
        async with connected(Access(url, ca=other.ca.read_bytes())) as api:
            with pytest.raises(UnreachableError, match="not trusted"):
                await api.request("GET", "/x")
        async with connected(Access(url)) as api:
            with pytest.raises(UnreachableError, match="not trusted"):
                await api.request("GET", "/x")
        async with connected(Access(url, verify=False)) as api:
            assert await api.request("GET", "/x") == b"ok"


async def test_a_connection_on_which_a_token_was_refused_waits_for_no_goodbye(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(DEADLINE)
    refusals = 2  # the first, and that of the renewed token

    def refuse() -> None:
        """Refuse with a body that never ends, answer no goodbye, and wait for the end of each connection."""
        context = server_tls(authority)
        for _ in range(refusals):
            accepted, _ = listening.accept()
            with context.wrap_socket(accepted, server_side=True) as line:
                line.settimeout(DEADLINE)
                line.recv(65536)
                line.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 99\r\n\r\nhalf")
                raw = socket.socket(fileno=os.dup(line.fileno()))
                raw.settimeout(DEADLINE / 2)
                with raw, contextlib.suppress(ConnectionResetError):
                    while raw.recv(65536):
                        pass

    url = f"https://127.0.0.1:{listening.getsockname()[1]}"
    with listening:
        server = asyncio.get_running_loop().run_in_executor(None, refuse)
        async with connected(Access(url, "Bearer old", ca=authority.ca.read_bytes())) as api:
            with pytest.raises(UnreachableError):
                await api.request("GET", "/x", timeout=1.0)
            await server


async def test_the_name_in_the_certificate_may_be_another_than_the_address_where_the_kubeconfig_says_so(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    ca = authority.ca.read_bytes()
    async with serving(answer_ok, server_tls(authority)) as url:
        async with connected(Access(url, ca=ca, server_name="localhost")) as api:
            assert await api.request("GET", "/x") == b"ok"
        async with connected(Access(url, ca=ca, server_name="kubernetes")) as api:
            with pytest.raises(UnreachableError, match="not trusted"):
                await api.request("GET", "/x")


async def test_a_client_certificate_is_shown_and_leaves_no_key_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    pair = authority.proxy("admin", "spiffe://x/admin")
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    access = Access("", ca=authority.ca.read_bytes(), certificate=pair.cert.read_bytes(), key=pair.key.read_bytes())
    async with serving(answer_ok, server_tls(authority, clients=True)) as url:
        async with connected(Access(url, ca=access.ca)) as api:
            with pytest.raises(UnreachableError):
                await api.request("GET", "/x")
        async with connected(Access(url, ca=access.ca, certificate=access.certificate, key=access.key)) as api:
            assert await api.request("GET", "/x") == b"ok"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("broken", [{"ca": b"no PEM"}, {"ca": b"\xff"}, {"certificate": b"x", "key": b"y"}])
async def test_certificates_that_cannot_be_used_are_an_error_that_says_so(broken: dict[str, bytes]) -> None:
    async with connected(Access("https://127.0.0.1:1", **broken)) as api:
        with pytest.raises(UnreachableError, match="cannot be used"):
            await api.request("GET", "/x")


async def test_a_renewed_client_certificate_makes_a_new_session_and_cuts_nothing_off(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.proxy("admin", "spiffe://x/admin")
    go_on = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.path == "/x":
            return web.Response(text="ok")
        answer = web.StreamResponse()
        await answer.prepare(request)
        await go_on.wait()
        await answer.write(b'{"a":1}\n')
        return answer

    async with serving(handle, server_tls(authority)) as url:
        first = Access(url, ca=authority.ca.read_bytes())
        given = Given(first)
        api = Connection(given)
        async with asyncio.timeout(DEADLINE), aclosing(api.lines("/w", query={}, idle_timeout=5.0)) as lines:
            assert await anext(lines) == b""
            given.access = Access(url, ca=first.ca, certificate=pair.cert.read_bytes(), key=pair.key.read_bytes())
            assert await api.request("GET", "/x") == b"ok"
            go_on.set()
            assert await anext(lines) == b'{"a":1}'
        await api.close()


def test_what_is_shown_to_a_server_is_shown_to_nobody_else() -> None:
    assert "secret" not in repr(Access("https://x", "Bearer secret", key=b"secret"))
