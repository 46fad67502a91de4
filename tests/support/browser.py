"""A real browser: headless Chromium, driven over its DevTools protocol through a pipe, without network but loopback.

What pages complain of (errors and warnings in the console, scripts that throw, what their policy forbids, what could
not be loaded) is kept, and so is every address that they ask for.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome")
_ANSWER = 60.0
_FLAGS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--no-default-browser-check", "--disable-extensions", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--window-size=1400,1000"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
# The browser wants its two ends of the pipe to be the files 3 and 4.
_PIPED = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'


def find_browser() -> Path | None:
    """The program; None where there is none."""
    return next((Path(found) for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """A running browser, for as long as the block runs; what it says goes to a log in the folder."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._answers: dict[int, Any] = {}
        self._answered = threading.Condition()
        self._pages: dict[str, Page] = {}
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        command = [str(program), *_FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
        with (folder / "browser.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", _PIPED, "_", str(theirs_in), str(theirs_out), *command],
                pass_fds=(theirs_in, theirs_out),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "HOME": str(folder)},
                start_new_session=True,
            )
        os.close(theirs_in)
        os.close(theirs_out)
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(AssertionError, OSError):
            self.call("Browser.close")
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)
        os.close(self._out)
        self._reader.join(20)

    def open(self, url: str) -> Page:
        """A page in a tab of its own."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = self._pages[session] = Page(self, target, session)
        for part in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{part}.enable", session=session)
        self.call("Page.navigate", {"url": url}, session=session)
        return page

    def call(self, method: str, params: Mapping[str, Any] | None = None, *, session: str = "") -> Any:
        """Ask the browser, and wait for its answer."""
        number = self.send(method, params, session=session)
        with self._answered:
            there = self._answered.wait_for(lambda: number in self._answers, _ANSWER)
            assert there, f"the browser does not answer to {method}"
            answer = self._answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def send(self, method: str, params: Mapping[str, Any] | None = None, *, session: str = "") -> int:
        """Ask, and do not wait."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params or {}}
        body = json.dumps({**message, "sessionId": session} if session else message).encode() + b"\0"
        with self._lock:
            while body:
                body = body[os.write(self._out, body) :]
        return number

    def _read(self) -> None:
        rest = b""
        with open(self._in, "rb", buffering=0) as answers:
            while data := answers.read(65_536):
                *messages, rest = (rest + data).split(b"\0")
                for message in messages:
                    self._take(json.loads(message))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            with self._answered:
                self._answers[message["id"]] = message
                self._answered.notify_all()
        elif (page := self._pages.get(message.get("sessionId", ""))) is not None:
            page.heard(message["method"], message["params"])


class Page:
    """A page: `complaints` are what it or the browser found wrong, `asked` the addresses that it asked for.

    Questions of the page (`confirm`) are answered with `agrees`, and kept in `questions`.
    """

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser = browser
        self._target = target
        self._session = session
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.questions: list[str] = []
        self.agrees = True

    def heard(self, event: str, params: dict[str, Any]) -> None:
        """Take in an event of the browser."""
        if event == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"].get("exception", params["exceptionDetails"])))
        elif event == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(f"{params['type']}: {params['args']}")
        elif event == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif event == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])
        elif event == "Page.javascriptDialogOpening":
            self.questions.append(params["message"])
            self._browser.send("Page.handleJavaScriptDialog", {"accept": self.agrees}, session=self._session)

    def value(self, expression: str) -> Any:
        """What a JavaScript expression comes to, as JSON has it."""
        params = {"expression": expression, "returnByValue": True, "awaitPromise": True, "userGesture": True}
        answer = self._browser.call("Runtime.evaluate", params, session=self._session)
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        """The text that can be seen of the first element of a selector; empty where there is none or it is hidden."""
        element = f"document.querySelector({json.dumps(selector)})"
        return str(self.value(f"{element}?.checkVisibility() ? {element}.innerText : ''"))

    def rows(self, section: str) -> list[str]:
        """The rows of a table, each as the text that can be seen."""
        selector = json.dumps(f"[data-rows={section}] > *")
        found: list[str] = self.value(f"[...document.querySelectorAll({selector})].map((row) => row.innerText)")
        return found

    def click(self, selector: str) -> None:
        """Click on an element."""
        assert self.value(f"!!document.querySelector({json.dumps(selector)})"), f"there is no {selector}"
        self.value(f"document.querySelector({json.dumps(selector)}).click()")

    def write(self, selector: str, text: str) -> None:
        """Write into a field, in place of what it has."""
        self.value(
            f"(() => {{ const field = document.querySelector({json.dumps(selector)}); field.value = {json.dumps(text)};"
            " field.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )

    def close(self) -> None:
        """Close its tab."""
        self._browser.call("Target.closeTarget", {"targetId": self._target})
