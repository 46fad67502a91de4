from __future__ import annotations

import pytest

from api.access import Access, AccessError, check_binding, tokens
from tests.unit.api.fakes import Client, fixture, service

READ, WRITE = "r" * 32, "w" * 32
TEXT = f"# people\n\nann:read:{READ}\nbob:write:{WRITE}\n"
ACCESS = Access(tokens=tokens(TEXT, where="tokens"))
URL = "/api/v1/namespaces/default/services/reviews"


def test_tokens_are_read_with_names_and_roles_and_kept_as_hashes() -> None:
    assert [(token.name, token.role) for token in ACCESS.tokens] == [("ann", "read"), ("bob", "write")]
    assert READ not in repr(ACCESS)
    assert WRITE not in repr(ACCESS)


@pytest.mark.parametrize(
    "line",
    ["nonsense", "ann:admin:" + READ, "ann:read:short", ":read:" + READ, "ann:read:with space" + READ, "ann:read"],
)
def test_a_line_that_is_no_token_is_refused_by_number_and_never_shown(line: str) -> None:
    with pytest.raises(AccessError, match="tokens:2") as refused:
        tokens(f"# one\n{line}\n", where="tokens")
    assert READ not in str(refused.value)
    assert "short" not in str(refused.value).replace("shorter", "")


def test_one_token_for_two_holders_is_refused() -> None:
    with pytest.raises(AccessError, match="the same"):
        tokens(f"ann:read:{READ}\nbob:write:{READ}", where="tokens")


def test_a_token_may_contain_colons() -> None:
    access = Access(tokens=tokens(f"ann:read:a:b:{READ}", where="tokens"))
    assert access.holder(f"Bearer a:b:{READ}") is not None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])
def test_beyond_loopback_needs_tokens(host: str) -> None:
    with pytest.raises(AccessError, match="FAIRLEAD_API_TOKENS"):
        check_binding(host, Access())
    check_binding(host, ACCESS)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.4.5", "::1", "localhost"])
def test_loopback_may_be_open(host: str) -> None:
    check_binding(host, Access())


async def test_without_a_token_nothing_but_health_and_pages_is_told() -> None:
    api = fixture(access=ACCESS)
    for path in ("/api/v1/services", "/api/v1/proxies", "/metrics", URL, "/api/v1/nowhere"):
        answer = await api.client.get(path)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    for path in ("/", "/docs", "/openapi.json", "/healthz", "/readyz", "/web/style.css"):
        assert (await api.client.get(path)).status == 200


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", f"Basic {READ}", READ, "Bearer \xe9" * 3])
async def test_a_wrong_token_is_401(header: str) -> None:
    assert (await fixture(access=ACCESS).client.get("/api/v1/services", authorization=header)).status == 401


async def test_the_read_role_reads_and_does_not_write() -> None:
    api = fixture(access=ACCESS)
    reader, writer = Client(api.app, token=READ), Client(api.app, token=WRITE)
    assert (await reader.put(URL, service())).status == 403
    assert (await writer.put(URL, service())).status == 201
    assert (await reader.get(URL)).status == 200
    for answer in (
        await reader.delete(URL),
        await reader.patch(URL, {}),
        await reader.post(f"{URL}/rollback", {"revision": 1}),
        await reader.put(f"{URL}?dryRun=All", service()),
    ):
        assert answer.status == 403
    history = (await reader.get(f"{URL}/history")).json["items"]
    assert [past["by"] for past in history] == ["bob"]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "192.0.2.1", "localhost.evil.example", "", "[::2]:80"]
)
async def test_an_open_api_answers_no_name_that_a_web_page_could_rebind(host: str) -> None:
    api = fixture()
    for path in ("/api/v1/services", "/", "/healthz"):
        assert (await api.client.get(path, host=host)).status == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]:8080", "127.9.9.9"])
async def test_an_open_api_answers_to_the_names_of_this_machine(host: str) -> None:
    assert (await fixture().client.get("/api/v1/services", host=host)).status == 200


async def test_with_tokens_any_name_will_do() -> None:
    assert (
        await Client(fixture(access=ACCESS).app, token=READ).get("/api/v1/services", host="mesh.example")
    ).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec_fetch_site": "cross-site"},
        {"origin": "http://localhost:9"},
    ],
)
async def test_what_another_web_site_makes_a_browser_send_is_refused(headers: dict[str, str]) -> None:
    api = fixture()
    assert (await api.client.put(URL, service(), **headers)).status == 403
    assert (await api.client.get("/api/v1/services", **headers)).status == 403
    assert (
        await api.client.put(URL, service(), origin="http://localhost:8080", sec_fetch_site="same-origin")
    ).status == 201


async def test_every_answer_is_dressed_against_sniffing_framing_and_caching() -> None:
    api = fixture()
    for path in ("/api/v1/services", "/", "/docs", "/nowhere", "/healthz"):
        headers = (await api.client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] in {"no-store", "no-cache"}
        assert "access-control-allow-origin" not in headers


async def test_requests_are_counted_by_template_so_that_names_make_no_new_series() -> None:
    api = fixture()
    for name in ("a", "b", "c"):
        await api.client.get(f"/api/v1/namespaces/default/services/{name}")
    await api.client.request("BREW", "/nowhere/at/all")
    requests = api.app.state.traffic.requests
    assert requests["GET", "/api/v1/namespaces/{namespace}/services/{name}", 404] == 3
    assert requests["other", "none", 404] == 1
    assert api.app.state.traffic.seconds["GET", "/api/v1/namespaces/{namespace}/services/{name}"] > 0
