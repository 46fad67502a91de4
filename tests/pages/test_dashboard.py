"""The pages in a real browser, before a running server: tables fill and follow, buttons act, errors show."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fairlead.processes import Children, free_port
from tests.support.browser import Browser, Page
from tests.support.programs import Serving, start_envoy, start_serve
from tests.support.serving_objects import put, service

pytestmark = pytest.mark.envoy

ROLLOUT = "/api/v1/namespaces/default/rollouts/shop"
STEPS = [{"weight": 20, "pause": "10m"}, {"weight": 60, "pause": "10m"}]


@pytest.fixture(scope="module")
def serving(programs: Children) -> Serving:
    """A server with something of everything, and a proxy."""
    found = start_serve(programs)
    service(found, "shop", 9001)
    service(found, "shop-v2", 9002)
    listeners = [{"name": "http", "port": free_port(), "protocol": "HTTP"}]
    put(found, "Gateway", "edge", {"gatewayClassName": "fairlead", "listeners": listeners})
    route(found, "shop", "shop.example.com")
    start_envoy(programs, "gateway", "edge", xds=found.xds)
    return found


def route(serving: Serving, name: str, host: str) -> None:
    rules = [{"backendRefs": [{"name": "shop", "port": 80}]}]
    put(serving, "HTTPRoute", name, {"parentRefs": [{"name": "edge"}], "hostnames": [host], "rules": rules})


@pytest.fixture
def page(browser: Browser, serving: Serving, programs: Children) -> Iterator[Page]:
    """The page at `/`. At the end it must have asked nobody but its server, and nothing may have gone wrong."""
    opened = browser.open(f"http://127.0.0.1:{serving.api}/")
    programs.wait_until(lambda: opened.text("#state") == "live", what="the page to be live")
    yield opened
    assert opened.complaints == []
    assert [url for url in opened.asked if not url.startswith(f"http://127.0.0.1:{serving.api}/")] == []
    assert opened.asked != []
    opened.close()


@pytest.fixture
def until(programs: Children) -> Callable[..., None]:
    def wait(condition: Callable[[], object], what: str) -> None:
        programs.wait_until(lambda: bool(condition()), what=what, timeout=60)

    return wait


def test_the_tables_fill(page: Page, until: Callable[..., None]) -> None:
    for section, wanted in {
        "proxies": ("gateway~default~edge~", "LDS synced"),
        "gateways": ("default/edge", "Programmed"),
        "routes": ("default/shop", "shop.example.com", "shop:80", "ResolvedRefs"),
        "services": ("default/shop-v2", "1 of 1 usable"),
    }.items():

        def there(section: str = section, wanted: tuple[str, ...] = wanted) -> bool:
            return any(all(word in row for word in wanted) for row in page.rows(section))

        until(there, f"the table of {section} to have {wanted}")
    assert [page.text(f"[data-count={one}]") for one in ("proxies", "gateways")] == ["1", "1"]
    assert page.text("[data-empty=problems]") == "Nothing is wrong in the sources."


def test_what_changes_is_shown_without_loading_the_page_again(
    page: Page, serving: Serving, until: Callable[..., None]
) -> None:
    page.value("window.same = true")
    route(serving, "late", "late.example.com")
    until(lambda: any("late.example.com" in row for row in page.rows("routes")), "the new route")
    route(serving, "late", "later.example.com")
    until(lambda: any("later.example.com" in row for row in page.rows("routes")), "the changed route")
    serving.client.request("DELETE", "/api/v1/namespaces/default/httproutes/late")
    until(lambda: not any("default/late" in row for row in page.rows("routes")), "the route to go")
    assert page.value("window.same") is True


def test_a_name_is_shown_as_text_and_the_filter_narrows_all_tables(page: Page, until: Callable[..., None]) -> None:
    until(lambda: len(page.rows("services")) == 2, "both services")
    page.write("#filter", "shop-v2")
    until(lambda: len(page.rows("services")) == 1 and page.rows("gateways") == [], "what is asked for alone")
    page.write("#filter", "<img src=x onerror=alert(1)>")
    until(lambda: page.rows("services") == [], "nothing to match")
    page.write("#filter", "")
    until(lambda: len(page.rows("services")) == 2 and len(page.rows("gateways")) == 1, "everything again")
    assert page.questions == []


def test_the_buttons_of_a_rollout_act_and_what_is_refused_is_said(
    page: Page, serving: Serving, until: Callable[..., None]
) -> None:
    spec: dict[str, Any] = {"targetRef": {"kind": "HTTPRoute", "name": "shop"}, "steps": STEPS}
    put(serving, "Rollout", "shop", {**spec, "stable": {"name": "shop"}, "canary": {"name": "shop-v2", "port": 80}})

    def shows(*words: str) -> None:
        until(lambda: [row for row in page.rows("rollouts") if all(word in row for word in words)], f"a row of {words}")

    def click(command: str) -> None:
        page.click(f'[aria-label="{command} default/shop"]')

    shows("default/shop", "Progressing", "step 1 of 2", "20 %")
    click("resume")
    until(lambda: "There is nothing to resume" in page.text("#refused"), "the refusal to be said")
    assert page.complaints.pop().startswith("Failed to load resource: the server responded with a status of 409")
    click("pause")
    shows("Paused", "20 %")
    assert page.text("#refused") == ""
    click("resume")
    shows("Progressing")
    page.agrees = False
    click("promote")
    assert len(page.questions) == 1
    assert serving.client.get(ROLLOUT)["status"]["rollout"]["phase"] == "Progressing", "who says no changes nothing"
    page.agrees = True
    click("promote")
    shows("Promoted", "100 %")
    click("abort")
    shows("RolledBack", "0 %")
    assert serving.client.get(ROLLOUT)["status"]["rollout"]["phase"] == "RolledBack"
    assert len(page.questions) == 3
    serving.client.request("DELETE", ROLLOUT)
    until(lambda: page.rows("rollouts") == [], "it to be gone")


def test_the_page_of_the_api_lists_it_and_finds_in_it(
    browser: Browser, serving: Serving, until: Callable[..., None]
) -> None:
    page = browser.open(f"http://127.0.0.1:{serving.api}/docs")
    seen = "[...document.querySelectorAll('details')].filter((one) => !one.hidden).length"
    until(lambda: page.value(seen) > 50, "the operations")
    page.write("#filter", "rollouts/{name}/pause")
    until(lambda: page.value(seen) == 1, "the one that is looked for")
    page.click("details:not([hidden]) summary")
    assert "/api/v1/namespaces/{namespace}/rollouts/{name}/pause" in page.text("details:not([hidden])")
    assert page.complaints == []
    page.close()


def test_what_goes_wrong_in_a_page_is_noticed(page: Page, until: Callable[..., None]) -> None:
    page.value("console.error('so it is')")
    page.value("void setTimeout(() => { throw new Error('thrown') })")
    page.value("void fetch('http://192.0.2.1/').catch(() => null)")
    until(lambda: len(page.complaints) >= 3, "all three")
    said = " ".join(page.complaints)
    assert all(word in said for word in ("so it is", "thrown", "Content Security Policy"))
    page.complaints.clear()
    page.asked[:] = [url for url in page.asked if "192.0.2.1" not in url]


def test_a_server_may_ask_for_a_token_tell_of_problems_go_away_and_come_back(
    browser: Browser, children: Children
) -> None:
    folder, tokens = children.folder / "config", children.folder / "tokens"
    folder.mkdir()
    (folder / "bad.yaml").write_text("kind: Service\nmetadata: {name: x}\nspec: {prots: []}\n")
    tokens.write_text("people:read:a-token-of-some-length\n")
    tokens.chmod(0o600)
    settings = ("--files", str(folder), "--api-tokens-file", str(tokens))
    first = start_serve(children, *settings, ready=False)
    page = browser.open(f"http://127.0.0.1:{first.api}/")

    def until(condition: Callable[[], object], what: str) -> None:
        children.wait_until(lambda: bool(condition()), what=what, timeout=60)

    until(lambda: page.text("#state") == "token needed", "it to ask")
    page.write("#token", "a-token-of-some-length")
    page.click("#login button")
    until(lambda: page.text("#state") == "live", "it to be live")
    assert page.text("#login") == page.value("document.getElementById('token').value") == ""
    assert "a-token" not in page.value("document.documentElement.outerHTML")

    until(lambda: any("bad.yaml" in row and "Fix:" in row for row in page.rows("problems")), "the problem")
    first.child.signal_group(signal.SIGKILL)
    first.child.process.wait(30)
    children.started.remove(first.child)
    until(lambda: page.text("#state") == "not reachable", "it to say that the server is away")
    assert page.rows("problems") != [], "what was known stays"
    (folder / "bad.yaml").write_text("")
    start_serve(children, *settings, name="again", api=first.api, xds=first.xds, ready=False)
    until(lambda: page.text("#state") == "live", "it to be live again")
    until(lambda: page.rows("problems") == [], "the problem to be gone")
    page.close()
