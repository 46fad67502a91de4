"""The committed examples of API versions by path, header, media type and query, at a real Envoy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from discovery.files.check import check
from tests.docs.pages import ROOT, blocks
from tests.envoy.test_route_policy import raw
from tests.support.routing import backend_server, get, serving
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy

FOLDER = ROOT / "envoy-configs" / "examples" / "api-versions"
PAGE = ROOT / "docs" / "how-to" / "version-an-api.md"
V1, V2 = "application/vnd.example.v1+json", "application/vnd.example.v2+json"


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """The gateway of all the examples, with a backend `v1` and a backend `v2` behind it."""
    gateway = free_port()
    with backend_server("v1") as one, backend_server("v2") as two:
        text = "\n---\n".join(file.read_text() for file in sorted(FOLDER.glob("*.yaml")))
        for old, new in (("10000", gateway), ("{http: 9001}", one.server_port), ("{http: 9002}", two.server_port)):
            assert old in text
            text = text.replace(old, f"{{http: {new}}}" if "http" in old else str(new))
        with serving(text, tmp_path):
            yield gateway


def who(port: int, host: str, path: str = "/orders", **headers: str) -> str:
    """The version that answered, or the status."""
    status, _, body = get(port, path, f"{host}.example.com", **headers)
    return str(body["who"]) if body else str(status)


def test_the_examples_have_no_problems() -> None:
    for file in sorted(FOLDER.glob("*.yaml")):
        assert not check(file.read_text(), file.name).problems


def test_a_version_in_the_path_is_taken_off_it(port: int) -> None:
    for version in ("v1", "v2"):
        status, _, arrived = get(port, f"/{version}/orders/7?page=2", "path.example.com")
        assert (status, arrived["who"], arrived["path"]) == (200, version, "/orders/7?page=2")
        assert get(port, f"/{version}", "path.example.com")[2]["path"] == "/"
    assert [who(port, "path", path) for path in ("/orders", "/v3/orders", "/v22/orders")] == ["404"] * 3


def test_a_version_in_a_header_is_taken_and_an_unknown_one_refused(port: int) -> None:
    assert [who(port, "header", api_version=version) for version in ("1", "2")] == ["v1", "v2"]
    assert who(port, "header") == "v1"
    for version in ("3", "2.0", "22", "two"):
        status, _, body = raw(port, "/orders", host="header.example.com", api_version=version)
        assert (status, body) == (400, b"api-version is 1 or 2\n")


@pytest.mark.parametrize("header", ["accept", "content_type"])
def test_a_version_in_a_media_type_is_taken_and_an_unknown_one_refused(port: int, header: str) -> None:
    assert [who(port, "media", **{header: kind}) for kind in (V1, V2)] == ["v1", "v2"]
    assert who(port, "media", **{header: f"{V2}; charset=utf-8"}) == "v2"
    assert [who(port, "media", **{header: kind}) for kind in ("application/json", f"x-{V2}", f"{V2}x")] == ["v1"] * 3
    status, _, body = raw(port, "/orders", "GET", b"", host="media.example.com", **{header: V2.replace("v2", "v3")})
    assert (status, body) == (406, f"{V1} or {V2}\n".encode())


def test_a_version_among_several_accepted_media_types_is_found(port: int) -> None:
    assert who(port, "media", accept=f"text/html, {V2};q=0.9, */*;q=0.1") == "v2"
    assert who(port, "media") == "v1"


def test_a_version_in_the_query_is_taken_and_an_unknown_one_refused(port: int) -> None:
    queries = {"": "v1", "?a=b": "v1", "?api-version=1": "v1", "?a=b&api-version=2&c": "v2", "?api-version=3": "400"}
    queries |= {"?api-version=22": "400", "?api-version=": "400"}
    assert {query: who(port, "query", f"/orders{query}") for query in queries} == queries


def test_the_page_shows_the_examples_as_they_are() -> None:
    shown: list[Any] = []
    for block in blocks(PAGE.read_text()):
        if block.language == "yaml":
            shown.extend(yaml.safe_load_all(block.text))
    files = [each for name in ("path", "header", "media-type", "query") for each in _documents(f"by-{name}.yaml")]
    assert shown == files


def _documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))
