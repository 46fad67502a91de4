"""How `fairlead serve` starts, refuses to, and ends; as a process, because that is what a user has."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from fairlead.processes import Children
from tests.support.programs import FAIRLEAD, start_serve


def serve(tmp_path: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    defaults = ["--store", f"sqlite:{tmp_path / 'f.db'}", "--api", "127.0.0.1:0", "--xds", "127.0.0.1:0"]
    return subprocess.run(
        [*FAIRLEAD, "serve", *defaults, *arguments],
        capture_output=True, text=True, timeout=60, check=False, env={"PATH": "/usr/bin:/bin", **env},
    )  # fmt: skip


def test_a_plain_start_ends_with_2_and_the_fix(tmp_path: Path) -> None:
    made = serve(tmp_path)
    assert made.returncode == 2
    assert "--insecure-xds" in made.stderr


def test_insecure_xds_beyond_loopback_ends_with_2(tmp_path: Path) -> None:
    made = serve(tmp_path, "--insecure-xds", "--xds", "0.0.0.0:0")
    assert made.returncode == 2
    assert "everybody who can reach 0.0.0.0:0" in made.stderr


@pytest.mark.parametrize("flag", ["--xds", "--api"])
def test_a_busy_port_ends_with_1_and_names_the_setting(tmp_path: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        made = serve(tmp_path, "--insecure-xds", flag, address)
    assert made.returncode == 1
    assert f"{address} is in use by another process" in made.stderr
    assert f"with {flag} or FAIRLEAD_{flag[2:].upper()}" in made.stderr


def test_a_folder_that_is_not_there_ends_with_1(tmp_path: Path) -> None:
    made = serve(tmp_path, "--insecure-xds", "--files", str(tmp_path / "none"))
    assert made.returncode == 1
    assert "--files: there is no" in made.stderr


def test_a_store_that_is_not_ours_ends_with_1_and_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "f.db").write_bytes(b"precious" * 1000)
    made = serve(tmp_path, "--insecure-xds")
    assert made.returncode == 1
    assert "f.db" in made.stderr
    assert "Traceback" not in made.stderr
    assert (tmp_path / "f.db").read_bytes() == b"precious" * 1000


def test_two_servers_do_not_share_a_store(tmp_path: Path, children: Children) -> None:
    start_serve(children, store=tmp_path / "f.db")
    made = serve(tmp_path, "--insecure-xds")
    assert made.returncode == 1
    assert "f.db" in made.stderr


def test_settings_come_from_the_environment_too(tmp_path: Path, children: Children) -> None:
    serving = start_serve(children, env={"FAIRLEAD_LOG_FORMAT": "json", "FAIRLEAD_LOG_LEVEL": "info"})
    lines = [line for line in serving.child.log.read_text().splitlines() if line.startswith("{")]
    assert json.loads(lines[-1])["event"] == "ready: 0 objects, 0 services"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(children: Children, number: signal.Signals) -> None:
    serving = start_serve(children)
    serving.child.process.send_signal(number)
    assert serving.child.process.wait(20) == 0


def test_a_second_signal_ends_it_at_once(children: Children) -> None:
    serving = start_serve(children, "--drain-time", "600")
    with socket.create_connection(("127.0.0.1", serving.api)) as half_sent:
        half_sent.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        watch = serving.client.events("/api/v1/gateways", query={"watch": "true"})
        next(watch)
        serving.child.process.send_signal(signal.SIGTERM)
        children.started.remove(serving.child)
        children.wait_until(
            lambda: "signal again" in serving.child.log.read_text(), what="the first signal to be taken"
        )
        if serving.child.running:
            serving.child.process.send_signal(signal.SIGTERM)
        assert serving.child.process.wait(20) in (0, 128 + signal.SIGTERM)


def test_what_was_written_is_there_after_a_kill(children: Children) -> None:
    store = children.folder / "kept.db"
    first = start_serve(children, name="first", store=store)
    body = {"apiVersion": "fairlead.dev/v1alpha1", "kind": "Service", "metadata": {"name": "a"}}
    path = "/api/v1/namespaces/default/services/a"
    first.client.request("PUT", path, body={**body, "spec": {"ports": [{"port": 80}]}})
    children.started.remove(first.child)
    first.child.process.kill()
    first.child.process.wait(20)
    second = start_serve(children, name="second", store=store)
    assert second.client.get(path)["spec"]["ports"][0]["port"] == 80
    assert [each["name"] for each in second.client.get("/api/v1/discovered/services")["items"]] == ["a"]


def test_watchers_are_told_of_changes_and_of_statuses(children: Children) -> None:
    serving = start_serve(children)
    watch = serving.client.events("/api/v1/namespaces/default/gateways", query={"watch": "true"})
    assert next(watch)[0] == "SYNCED"
    spec = {"gatewayClassName": "fairlead", "listeners": [{"name": "http", "port": 10000, "protocol": "HTTP"}]}
    body = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "edge"}, "spec": spec}
    serving.client.request("PUT", "/api/v1/namespaces/default/gateways/edge", body=body)
    name, data = next(event for event in watch if event[1].get("status"))
    assert name in ("ADDED", "MODIFIED")
    assert {each["type"] for each in data["status"]["conditions"]} >= {"Accepted", "Programmed"}


def test_backups_of_a_running_server_can_be_restored(children: Children) -> None:
    serving = start_serve(children, store=children.folder / "f.db")
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kept"}}
    serving.client.request("PUT", "/api/v1/namespaces/kept", body=body)
    copy = children.folder / "copy.db"
    store = f"sqlite:{children.folder / 'f.db'}"
    assert subprocess.run([*FAIRLEAD, "backup", str(copy), "--store", store], check=False, timeout=60).returncode == 0
    busy = subprocess.run(
        [*FAIRLEAD, "restore", str(copy), "--store", store], check=False, timeout=60, capture_output=True, text=True
    )
    assert busy.returncode == 1, "a running server's store must not be replaced"
    other = children.folder / "other.db"
    subprocess.run([*FAIRLEAD, "restore", str(copy), "--store", f"sqlite:{other}"], check=True, timeout=60)
    again = start_serve(children, name="again", store=other)
    assert again.client.get("/api/v1/namespaces/kept")["metadata"]["name"] == "kept"
