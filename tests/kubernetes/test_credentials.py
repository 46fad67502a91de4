"""Tokens that end while a cluster is watched: the next one is picked up, from a file and from a plugin.

The API server gives no token for less than ten minutes, so those here are bound to a Secret and end with it.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from discovery.kubernetes import informer_state
from tests.support.api_line import as_user, current, line_to
from tests.support.followed_cluster import account, following, said
from tests.support.kubernetes import JSON, Cluster, Refused, eventually

_PLUGIN = """#!{python}
import pathlib
folder = pathlib.Path({folder!r})
with (folder / "calls").open("a") as calls:
    calls.write("x")
print((folder / "answer").read_text())
"""


def token(cluster: Cluster, namespace: str, bound_to: str) -> str:
    """A token of the account `s` that ends with a Secret."""
    root = f"/api/v1/namespaces/{namespace}"
    made = cluster.request("POST", f"{root}/secrets", {"metadata": {"name": bound_to}})
    bound = {"kind": "Secret", "apiVersion": "v1", "name": bound_to, "uid": made["metadata"]["uid"]}
    asked = {"spec": {"expirationSeconds": 600, "boundObjectRef": bound}}
    answer = cluster.request("POST", f"{root}/serviceaccounts/s/token", asked)["status"]["token"]
    assert isinstance(answer, str)
    return answer


def revoke(cluster: Cluster, namespace: str, bound_to: str, kubeconfig: Path) -> None:
    """End a token, and wait until the API server has forgotten that it was good."""
    cluster.request("DELETE", f"/api/v1/namespaces/{namespace}/secrets/{bound_to}")
    asked = Cluster(kubeconfig)

    def refused() -> bool:
        try:
            asked.get("/api/v1/services?limit=1")
        except Refused as error:
            return error.status == 401
        return False

    try:
        eventually(refused, "the API server to refuse the token")
    finally:
        asked.close()


def service(port: int) -> JSON:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "labels": {"service.kubernetes.io/service-proxy-name": "none"}},
        "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": port}]},
    }


def with_user(kubeconfig: Path, **user: object) -> None:
    """Have a kubeconfig say who we are in another way."""
    config = yaml.safe_load(kubeconfig.read_text())
    one = current(config, "user")
    one.clear()
    one.update(user)
    kubeconfig.write_text(yaml.safe_dump(config))


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A folder with an exec plugin `run` that answers what the file `answer` holds, and counts in `calls`."""
    folder = tmp_path / "plugin"
    folder.mkdir()
    (folder / "run").write_text(_PLUGIN.format(python=sys.executable, folder=str(folder)))
    (folder / "run").chmod(0o755)
    return folder


def answers(plugin: Path, token: str, *, seconds: float) -> None:
    ends = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    said = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    (plugin / "answer").write_text(json.dumps({**said, "status": {"token": token, "expirationTimestamp": ends}}))


def exec_user(plugin: Path) -> dict[str, object]:
    version = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": version, "command": str(plugin / "run"), "interactiveMode": "Never"}}


async def test_a_token_in_a_file_that_is_revoked_while_watching_is_a_problem_until_the_file_holds_the_next(
    cluster: Cluster, namespace: str, kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(informer_state, "FORBIDDEN_PAUSE", 1.0)
    async with account(cluster, namespace, kubeconfig, tmp_path), line_to(kubeconfig, tmp_path) as (line, over):
        file = tmp_path / "token"
        file.write_text(await said(token, cluster, namespace, "first"))
        with_user(over, tokenFile=str(file))
        async with following(over) as seen:
            await said(revoke, cluster, namespace, "first", as_user(kubeconfig, file.read_text(), tmp_path / "revoked"))
            await said(cluster.apply, service(80), namespace=namespace)
            await seen.until(lambda: ("service", namespace, "web") in seen.rows)
            await line.drop()
            await seen.until(lambda: "Forbidden" in seen.codes())
            await said(cluster.apply, service(81), namespace=namespace)
            file.write_text(await said(token, cluster, namespace, "second"))
            await seen.until(lambda: seen.rows["service", namespace, "web"].ports[0].port == 81)
            await seen.until(lambda: not seen.codes())


async def test_a_plugin_is_asked_again_when_its_token_is_about_to_end_and_when_it_is_revoked(
    cluster: Cluster, namespace: str, kubeconfig: Path, tmp_path: Path, plugin: Path
) -> None:
    async with account(cluster, namespace, kubeconfig, tmp_path), line_to(kubeconfig, tmp_path) as (line, over):
        with_user(over, **exec_user(plugin))
        first = await said(token, cluster, namespace, "first")
        answers(plugin, first, seconds=3600)
        async with following(over) as seen:
            assert (plugin / "calls").read_text() == "x"
            answers(plugin, await said(token, cluster, namespace, "second"), seconds=20)
            await said(revoke, cluster, namespace, "first", as_user(kubeconfig, first, tmp_path / "revoked"))
            await line.drop()
            await said(cluster.apply, service(80), namespace=namespace)
            await seen.until(lambda: ("service", namespace, "web") in seen.rows)
            asked = len((plugin / "calls").read_text())
            assert asked > 1, "what was refused is asked for again"
            answers(plugin, await said(token, cluster, namespace, "third"), seconds=3600)
            await line.drop()
            await said(cluster.apply, service(81), namespace=namespace)
            await seen.until(lambda: seen.rows["service", namespace, "web"].ports[0].port == 81)
            assert len((plugin / "calls").read_text()) > asked, "so is what ends within half a minute"
            await seen.until(lambda: not seen.codes())
            again = len((plugin / "calls").read_text())
            await line.drop()
            await said(cluster.apply, service(82), namespace=namespace)
            await seen.until(lambda: seen.rows["service", namespace, "web"].ports[0].port == 82)
            assert len((plugin / "calls").read_text()) == again, "but not what lasts"
