from __future__ import annotations

import re
from importlib.resources import files

import pytest

from mesh.kinds import KINDS, json_schema
from tests.unit.api.fakes import Fixture

WEB = files("api").joinpath("web")
SCRIPTS = ("dashboard.js", "docs.js")


@pytest.mark.parametrize("page", ["/", "/docs"])
async def test_a_page_and_all_it_loads_comes_from_this_server(api: Fixture, page: str) -> None:
    answer = await api.client.get(page)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    loaded = re.findall(r'(?:src|href)="([^"#]+)"', answer.body.decode())
    assert len(loaded) >= 3
    for path in loaded:
        assert path.startswith("/"), path
        assert (await api.client.get(path)).status == 200, path


async def test_the_page_is_told_every_kind_of_route_that_the_server_knows(api: Fixture) -> None:
    told = re.search(r'<body data-routes="([^"]*)">', (await api.client.get("/")).body.decode())
    assert told is not None
    assert told[1].split() == [
        kind.plural for kind in KINDS.values() if "Route" in kind.name and "parentRefs" in str(json_schema(kind.name))
    ]


@pytest.mark.parametrize("page", ["index.html", "docs.html"])
def test_a_page_holds_no_inline_script_or_style_that_its_policy_forbids(page: str) -> None:
    text = WEB.joinpath(page).read_text()
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", text)


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_never_turn_text_into_markup(script: str) -> None:
    text = WEB.joinpath(script).read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|https?:", text)


@pytest.mark.parametrize("name", ["nothing.js", "..%2fapp.py", "%2e%2e", "app.py", "index.html%00"])
async def test_nothing_else_is_served(api: Fixture, name: str) -> None:
    assert (await api.client.get(f"/web/{name}")).status == 404
