"""Kubeconfigs and service accounts as files on a disk, and exec plugins as programs."""

from __future__ import annotations

import base64
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("kubernetes")

from discovery.kubernetes import credentials
from discovery.kubernetes.api import UnreachableError
from discovery.kubernetes.credentials import InCluster, KubeConfig
from tests.support.certificates import Authority


def kubeconfig(folder: Path, *users: dict[str, Any], **cluster: Any) -> Path:
    """A kubeconfig with a context per user, `c0` the current one."""
    path = folder / "config"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c0",
        "clusters": [{"name": "k", "cluster": {"server": "https://k:6443/", **cluster}}],
        "users": [{"name": f"u{number}", "user": user} for number, user in enumerate(users)],
        "contexts": [
            {"name": f"c{number}", "context": {"cluster": "k", "user": f"u{number}"}} for number in range(len(users))
        ],
    }
    path.write_text(yaml.safe_dump(content))
    return path


def plugin(folder: Path, body: str) -> dict[str, Any]:
    """A user whose credentials come from a program that writes a line into `calls` each time."""
    script = folder / "plugin.py"
    script.write_text(f"open({str(folder / 'calls')!r}, 'a').write('x\\n')\n{body}")
    api = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": api, "command": sys.executable, "args": [str(script)], "env": None}}


def gives(**status: Any) -> str:
    given = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    return f"print({json.dumps(given)!r})"


def calls(folder: Path) -> int:
    return len((folder / "calls").read_text().splitlines())


def soon(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


async def test_a_token_and_the_server_of_the_current_context(tmp_path: Path) -> None:
    access = await KubeConfig(str(kubeconfig(tmp_path, {"token": "abc"}, {"token": "def"}))).load()
    assert (access.server, access.authorization) == ("https://k:6443", "Bearer abc")


async def test_another_context_by_its_name(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, {"token": "abc"}, {"token": "def"})
    assert (await KubeConfig(str(path), "c1").load()).authorization == "Bearer def"
    with pytest.raises(UnreachableError, match="c7"):
        await KubeConfig(str(path), "c7").load()


async def test_certificates_as_files_beside_the_kubeconfig_and_as_data_within_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.proxy("admin", "spiffe://x/admin")
    by_file = {"client-certificate": pair.cert.name, "client-key": pair.key.name}
    encoded = {
        "client-certificate-data": base64.b64encode(pair.cert.read_bytes()).decode(),
        "client-key-data": base64.b64encode(pair.key.read_bytes()).decode(),
    }
    path = kubeconfig(tmp_path, by_file, encoded, **{"certificate-authority": authority.ca.name})
    first, second = await KubeConfig(str(path)).load(), await KubeConfig(str(path), "c1").load()
    assert first == second
    assert first.certificate == pair.cert.read_bytes()
    assert first.ca == authority.ca.read_bytes()


async def test_keys_within_a_kubeconfig_do_not_stay_in_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    user = {"client-certificate-data": "YQ==", "client-key-data": "Yg=="}
    config = KubeConfig(str(kubeconfig(tmp_path, user)))
    for _ in range(2):
        access = await config.load(refused=True)
        assert (access.certificate, access.key) == (b"a", b"b")
        assert list(folder.iterdir()) == []


async def test_proxy_server_name_and_skipped_verification(tmp_path: Path) -> None:
    said = {"proxy-url": "http://p:3128", "tls-server-name": "kubernetes", "insecure-skip-tls-verify": True}
    access = await KubeConfig(str(kubeconfig(tmp_path, {"token": "t"}, **said))).load()
    assert (access.proxy, access.server_name, access.verify) == ("http://p:3128", "kubernetes", False)


async def test_a_kubeconfig_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    config = KubeConfig(str(kubeconfig(tmp_path, {"token": "abc"})))
    await config.load()
    kubeconfig(tmp_path, {"token": "another"})
    assert (await config.load()).authorization == "Bearer another"


async def test_a_token_in_a_file_is_read_again_when_it_was_refused_and_once_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("one\n")
    config = KubeConfig(str(kubeconfig(tmp_path, {"tokenFile": str(token)})))
    assert (await config.load()).authorization == "Bearer one"
    token.write_text("two\n")
    assert (await config.load()).authorization == "Bearer one"
    assert (await config.load(refused=True)).authorization == "Bearer two"
    token.write_text("three\n")
    monkeypatch.setattr(credentials, "REFRESH_SECONDS", 0.0)
    assert (await config.load()).authorization == "Bearer three"


async def test_a_plugin_is_run_again_only_when_its_token_is_about_to_end_or_was_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "REFRESH_SECONDS", 0.0)
    config = KubeConfig(str(kubeconfig(tmp_path, plugin(tmp_path, gives(token="t", expirationTimestamp=soon(3600))))))
    for _ in range(3):
        assert (await config.load()).authorization == "Bearer t"
    assert calls(tmp_path) == 1
    await config.load(refused=True)
    assert calls(tmp_path) == 2
    plugin(tmp_path, gives(token="u", expirationTimestamp=soon(5)))
    assert (await config.load(refused=True)).authorization == "Bearer u"
    await config.load()
    assert calls(tmp_path) == 4


async def test_a_plugin_may_give_a_client_certificate(tmp_path: Path) -> None:
    user = plugin(tmp_path, gives(clientCertificateData="CERT", clientKeyData="KEY"))
    access = await KubeConfig(str(kubeconfig(tmp_path, user))).load()
    assert (access.certificate, access.key, access.authorization) == (b"CERT", b"KEY", "")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("import sys; sys.exit('log in first')", "log in first"),
        ("print('no json')", "printed no ExecCredential"),
        (gives(), "neither a token nor a client certificate"),
        ("print('[]')", "printed no ExecCredential"),
        (
            'print(\'{"apiVersion": "client.authentication.k8s.io/v1", "kind": "x", "status": 7}\')',
            "printed no ExecCredential",
        ),
        ("import time; time.sleep(60)", "did not end within"),
    ],
    ids=["fails", "garbage", "nothing", "list", "number", "hangs"],
)
async def test_a_plugin_that_fails_is_an_error_that_says_so_and_no_anonymous_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: str
) -> None:
    monkeypatch.setattr(credentials, "EXEC_SECONDS", 2.0)
    with pytest.raises(UnreachableError, match=words):
        await KubeConfig(str(kubeconfig(tmp_path, plugin(tmp_path, body)))).load()


async def test_a_plugin_is_told_of_the_cluster_where_it_wants_to_know_and_of_nothing_where_not(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("CA")
    asked = tmp_path / "asked"
    keep = f"import os; open({str(asked)!r}, 'w').write(os.environ['KUBERNETES_EXEC_INFO'])\n"
    user = plugin(tmp_path, keep + gives(token="t"))
    extensions = [
        {"name": "another", "extension": {"b": 2}},
        {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "a"}},
    ]
    said = {"certificate-authority": "ca.pem", "tls-server-name": "kubernetes", "extensions": extensions}
    await KubeConfig(str(kubeconfig(tmp_path, user, **said))).load()
    assert json.loads(asked.read_text())["spec"] == {"interactive": False}
    user["exec"]["provideClusterInfo"] = True
    await KubeConfig(str(kubeconfig(tmp_path, user, **said))).load()
    assert json.loads(asked.read_text())["spec"]["cluster"] == {
        "server": "https://k:6443/",
        "tls-server-name": "kubernetes",
        "certificate-authority-data": base64.b64encode(b"CA").decode(),
        "config": {"audience": "a"},
    }


async def test_a_plugin_that_is_not_installed_is_an_error_that_names_it(tmp_path: Path) -> None:
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/no/such/plugin"}}
    with pytest.raises(UnreachableError, match="/no/such/plugin cannot be run"):
        await KubeConfig(str(kubeconfig(tmp_path, user))).load()


@pytest.mark.parametrize(
    "content",
    ["", "[]", "7", "{", "a: b", "clusters: 7", "\x00", "current-context: x\ncontexts: []\nclusters: []", "x" * 10_000],
)
async def test_a_file_that_is_no_kubeconfig_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "config").write_text(content)
    with pytest.raises(UnreachableError, match=f"kubeconfig {tmp_path}/config"):
        await KubeConfig(str(tmp_path / "config")).load()


async def test_a_kubeconfig_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="No such file"):
        await KubeConfig(str(tmp_path / "none")).load()
    missing = kubeconfig(tmp_path, {"client-certificate": "none.pem", "client-key": "none.key"})
    with pytest.raises(UnreachableError, match=r"none\.pem"):
        await KubeConfig(str(missing)).load()


async def test_a_pods_service_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("one\n")
    (tmp_path / "ca.crt").write_text("CA")
    inside = InCluster({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}, folder=str(tmp_path))
    access = await inside.load()
    assert (access.server, access.ca) == ("https://[fd00::1]:443", b"CA")
    assert access.authorization.lower() == "bearer one"
    (tmp_path / "token").write_text("two")
    assert await inside.load() == access
    monkeypatch.setattr(credentials, "REFRESH_SECONDS", 0.0)
    assert (await inside.load()).authorization.lower() == "bearer two"


async def test_outside_a_pod_there_is_no_service_account(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="name a kubeconfig"):
        await InCluster({}).load()
    environ = {"KUBERNETES_SERVICE_HOST": "k", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(UnreachableError, match="token"):
        await InCluster(environ, folder=str(tmp_path)).load()
