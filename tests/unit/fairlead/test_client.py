from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from fairlead.client import Client, RefusedError
from fairlead.errors import CommandError, UsageError


class Handler(BaseHTTPRequestHandler):
    """Answers by path; remembers what it was asked."""

    asked: list[tuple[str, str, dict[str, str], bytes]]

    def do_GET(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class' name
        """Keep quiet."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.asked.append((self.command, self.path, dict(self.headers), body))
        status, content_type, answer = {
            "/ok": (200, "application/json", b'{"a": 1}'),
            "/empty": (204, "application/json", b""),
            "/invalid": (422, "application/problem+json", json.dumps(INVALID).encode()),
            "/proxy-error": (502, "text/html", b"<h1>Bad Gateway</h1>"),
            "/html": (200, "text/html", b"<h1>Welcome to nginx</h1>"),
            "/list": (200, "application/json", b"[1]"),
            "/denied": (401, "application/problem+json", json.dumps(DENIED).encode()),
            "/no-token": (401, "application/problem+json", json.dumps(NO_TOKEN).encode()),
            "/events": (200, "text/event-stream", EVENTS),
        }[self.path.partition("?")[0]]
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


PROBLEM = {"code": "InvalidPath", "level": "error", "path": "spec.x", "message": "it is wrong", "fix": "mend it"}
INVALID = {"type": "about:blank", "title": "Invalid", "status": 422, "detail": "Not valid", "problems": [PROBLEM]}
DENIED = {"detail": "A token is needed.", "status": 401, "fix": "ask the operator for one"}
NO_TOKEN = {**DENIED, "code": "NoToken", "fix": "Send Authorization, or give the command line --token"}
EVENTS = b': hello\n\nid: 1\nevent: ADDED\ndata: {"n":\ndata: 1}\n\nevent: SYNCED\ndata: {}\n\nevent: cut off\ndata: {'


@pytest.fixture
def server() -> Iterator[tuple[str, list[Any]]]:
    handler = type("Recording", (Handler,), {"asked": []})
    httpd = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}", handler.asked  # type: ignore[attr-defined]
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_an_answer_is_decoded_and_the_token_goes_along(server: tuple[str, list[Any]]) -> None:
    url, asked = server
    client = Client(url, token="secret")
    assert client.get("/ok", name="a b&c") == {"a": 1}
    assert client.request("PUT", "/empty", body={"x": "ä"}).json() is None
    (_, path, headers, _), (method, _, _, body) = asked
    assert path == "/ok?name=a+b%26c"
    assert headers["Authorization"] == "Bearer secret"
    assert (method, json.loads(body)) == ("PUT", {"x": "ä"})


def test_a_problem_document_becomes_lines_that_name_field_and_fix(server: tuple[str, list[Any]]) -> None:
    with pytest.raises(RefusedError) as raised:
        Client(server[0]).get("/invalid")
    assert raised.value.status == 422
    assert str(raised.value) == "Not valid (HTTP 422)\n  error [InvalidPath] spec.x: it is wrong. Fix: mend it."


def test_an_error_that_is_no_problem_document_is_shown_as_it_is(server: tuple[str, list[Any]]) -> None:
    with pytest.raises(RefusedError, match=r"<h1>Bad Gateway</h1> \(HTTP 502\)"):
        Client(server[0]).get("/proxy-error")


def test_what_answers_without_being_fairlead_is_told_of(server: tuple[str, list[Any]]) -> None:
    client = Client(server[0])
    with pytest.raises(CommandError, match=r"not JSON \('<h1>Welcome.*is that Fairlead's API\? Fix: "):
        client.get("/html")
    with pytest.raises(CommandError, match=r"JSON that is not an object.*Fix: "):
        client.get("/list")
    with pytest.raises(CommandError, match=r"to /ok without `items`.*Fix: "):
        client.items("/ok")


def test_the_servers_fix_is_passed_on_and_401_names_the_flag(server: tuple[str, list[Any]]) -> None:
    with pytest.raises(RefusedError) as raised:
        Client(server[0]).get("/denied")
    assert str(raised.value) == (
        "A token is needed. (HTTP 401). Fix: give a token with --token or FAIRLEAD_TOKEN; ask the operator for one."
    )


def test_the_fix_of_our_own_401_is_told_once(server: tuple[str, list[Any]]) -> None:
    with pytest.raises(RefusedError) as raised:
        Client(server[0]).get("/no-token")
    assert str(raised.value).endswith("(HTTP 401). Fix: give a token with --token or FAIRLEAD_TOKEN.")


def test_events_are_read_until_the_server_ends_and_half_an_event_is_none(server: tuple[str, list[Any]]) -> None:
    assert list(Client(server[0]).events("/events")) == [("ADDED", {"n": 1}), ("SYNCED", {})]


def test_events_that_are_refused_say_why(server: tuple[str, list[Any]]) -> None:
    with pytest.raises(RefusedError, match="Not valid"):
        next(Client(server[0]).events("/invalid"))


@pytest.mark.parametrize(
    "url", ["ftp://x", "http://", "http://x:notaport", "http://x:99999", "foo", "foo:80", "", "http://[::1"]
)
def test_what_is_no_url_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError, match="--server"):
        Client(url)


def test_a_name_that_does_not_resolve_is_told_of() -> None:
    with pytest.raises(CommandError, match=r"cannot talk to http://nowhere\.invalid"):
        Client("http://nowhere.invalid", timeout=5).get("/")
