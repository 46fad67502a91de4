"""The authority over HTTP: who may move it, what is refused, and that no key comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from api.access import Access, tokens
from api.app import create_app
from api.ports import NotFound, Refused, Unavailable
from tests.unit.api.fakes import Client, fixture

ACCESS = Access(tokens("ann:read:ann-reads-and-no-more\nbob:write:bob-writes-as-well", where="here"))


class Authority:
    """A door that notes who came through."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.error: Exception | None = None

    def _do(self, *asked: Any) -> Mapping[str, Any]:
        self.asked.append(asked)
        if self.error is not None:
            raise self.error
        return {"id": "1f3c", "state": "prepared"}

    def status(self) -> Mapping[str, Any]:
        return {"authorities": []}

    def bundle(self) -> bytes:
        return b'{"keys":[]}'

    def compare(self) -> Sequence[Mapping[str, Any]]:
        return []

    def federation(self) -> Sequence[Mapping[str, Any]]:
        return [{"trustDomain": "elsewhere.org"}]

    async def refresh(self, trust_domain: str) -> Mapping[str, Any]:
        return self._do("refresh", trust_domain)

    async def request(self) -> str:
        self._do("request")
        return "PEM"

    async def prepare(self, chain: str) -> Mapping[str, Any]:
        return self._do("prepare", chain)

    async def activate(self, name: str, *, override: bool, by: str) -> Mapping[str, Any]:
        return self._do("activate", name, override, by)

    async def taint(self, name: str, *, by: str) -> Mapping[str, Any]:
        return self._do("taint", name, by)

    async def revoke(self, name: str, *, override: bool, by: str) -> Mapping[str, Any]:
        return self._do("revoke", name, override, by)


def client(authority: Authority, token: str = "bob-writes-as-well") -> Client:
    made = fixture(access=ACCESS)
    app = create_app(
        config=made.config, world=made.world, feed=made.feed, parse_yaml=lambda _: pytest.fail("no YAML here"),
        access=ACCESS, authority=authority,
    )  # fmt: skip
    return Client(app, token=token)


STEPS = ("1f3c/activate", "1f3c/taint", "1f3c/revoke", "request", "prepare")


@pytest.mark.parametrize("step", STEPS)
async def test_who_may_only_read_moves_nothing(step: str) -> None:
    authority = Authority()
    reader = client(authority, "ann-reads-and-no-more")
    answer = await reader.request("POST", f"/api/v1/authority/{step}", json={})
    assert (answer.status, answer.json["code"]) == (403, "ReadOnly")
    assert authority.asked == []
    assert (await reader.request("GET", "/api/v1/authority")).status == 200


@pytest.mark.parametrize("path", ["authority", "authority/bundle", "authority/proxies", "federation"])
async def test_nobody_looks_without_a_token(path: str) -> None:
    """CVE-2026-31838: what is for operators was readable by whoever reached it."""
    answer = await client(Authority(), "").request("GET", f"/api/v1/{path}")
    assert answer.status == 401


async def test_a_step_says_who_took_it_and_whether_it_overrides() -> None:
    authority = Authority()
    bob = client(authority)
    for path in ("activate", "activate?override=true", "taint", "revoke?override=false"):
        assert (await bob.request("POST", f"/api/v1/authority/1f3c/{path}")).status == 200
    assert authority.asked == [
        ("activate", "1f3c", False, "bob"),
        ("activate", "1f3c", True, "bob"),
        ("taint", "1f3c", "bob"),
        ("revoke", "1f3c", False, "bob"),
    ]


@pytest.mark.parametrize(
    ("error", "status"), [(Refused("not now"), 409), (NotFound("none"), 404), (Unavailable("away", fix="wait"), 503)]
)
async def test_what_cannot_be_is_told(error: Exception, status: int) -> None:
    authority = Authority()
    authority.error = error
    answer = await client(authority).request("POST", "/api/v1/authority/1f3c/revoke")
    assert (answer.status, answer.json["detail"]) == (status, str(error))


@pytest.mark.parametrize("body", [{"chain": 1}, {"other": "x"}, ["chain"], "chain"])
async def test_a_body_that_is_no_chain_is_refused(body: Any) -> None:
    authority = Authority()
    answer = await client(authority).request("POST", "/api/v1/authority/prepare", json=body)
    assert answer.status == 422
    assert authority.asked == []


async def test_a_chain_is_handed_on() -> None:
    authority = Authority()
    assert (await client(authority).request("POST", "/api/v1/authority/prepare", json={"chain": "PEM"})).status == 200
    assert (await client(authority).request("POST", "/api/v1/authority/prepare", json={})).status == 200
    assert authority.asked == [("prepare", "PEM"), ("prepare", "")]
