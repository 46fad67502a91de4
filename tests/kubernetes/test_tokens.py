"""Real Envoys that show real service account tokens, and an authority that replicas share through a real Secret."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from discovery.kubernetes.connection import Connection
from discovery.kubernetes.credentials import KubeConfig
from discovery.kubernetes.token_review import BadTokenError, TokenReviews
from fairlead.identities.tokens import TOKEN_KEYS
from fairlead.identities.trust_config_maps import CONFIG_MAP
from fairlead.identities.xds_authority import SECRET, XdsAuthority
from fairlead.processes import Children, free_port
from sds.bootstrap_authority import AUTHORITY_LIFE, OVERLAP, UnreadableAuthorityError
from tests.support.api_line import line_to
from tests.support.kubernetes import PATIENCE, Cluster, eventually
from tests.support.kubernetes_api import until
from tests.support.pod_tokens import Mounted, account, bound_token, bundle, token_of
from tests.support.programs import FAIRLEAD, RunningEnvoy, Serving, answers, ask, start_envoy

ALLOWED = PATIENCE


@pytest.fixture
async def api(kubeconfig: Path) -> AsyncIterator[Connection]:
    connection = Connection(KubeConfig(str(kubeconfig)))
    yield connection
    await connection.close()


class World:
    """`fairlead serve` with tokens as its only way in, a Gateway `edge`, and a folder as in a pod."""

    def __init__(self, children: Children, cluster: Cluster, namespace: str) -> None:
        self.children, self.cluster, self.namespace = children, cluster, namespace
        self.kubeconfig = cluster.kubeconfig
        self.port, self.xds, self.api = free_port(), free_port(), free_port()
        self.mounted = Mounted(children.folder / "mounted")
        (children.folder / "config").mkdir()
        (children.folder / "config" / "edge.yaml").write_text(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n"
            f"metadata: {{name: edge, namespace: {namespace}}}\n"
            "spec: {gatewayClassName: fairlead, listeners: [{name: http, port: %d, protocol: HTTP}]}\n" % self.port
        )
        account(cluster, namespace, "edge")

    def serve(self, name: str = "serve", *flags: str) -> Serving:
        child = self.children.start(
            name,
            [
                *(*FAIRLEAD, "serve", "--kubernetes", str(self.kubeconfig), "--gateway-xds", "none"),
                *("--kubernetes-namespaces", self.namespace, "--kubernetes-lease", f"{self.namespace}/fairlead"),
                *("--files", str(self.children.folder / "config")),
                *("--store", f"sqlite:{self.children.folder / name}.db", "--drain-time", "0.2"),
                *("--xds", f"127.0.0.1:{self.xds}", "--api", f"127.0.0.1:{self.api}", *flags),
            ],
        )
        serving = Serving(child, self.xds, self.api)
        self.children.wait_until(
            lambda: answers(serving.client, "/readyz"), what=f"{name} to be ready", timeout=ALLOWED
        )
        eventually(lambda: bundle(self.cluster, self.namespace) or None, "the authority to be published")
        return serving

    def envoy(self, *, ready: bool = True) -> RunningEnvoy:
        flags = ("-n", self.namespace, "--token-file", self.mounted["token"], "--ca", self.mounted["ca.crt"])
        return start_envoy(self.children, "gateway", "edge", *flags, xds=self.xds, ready=ready)

    def put_token(self, token: str) -> None:
        self.mounted.put(token=token, **{"ca.crt": bundle(self.cluster, self.namespace)})

    def proxies(self, serving: Serving) -> int:
        return len(serving.client.get("/api/v1/proxies")["items"])

    def holds(self, name: str) -> bool:
        """Whether the store of `serve` has something of that name in it."""
        parts = (self.children.folder / "serve.db", self.children.folder / "serve.db-wal")
        return any(name.encode() in path.read_bytes() for path in parts if path.exists())

    @property
    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self.children.folder.glob("serve*.log")))


@pytest.fixture
def world(children: Children, cluster: Cluster, namespace: str) -> World:
    return World(children, cluster, namespace)


def test_an_envoy_with_the_token_of_the_gateways_account_is_served(world: World) -> None:
    serving = world.serve()
    token = token_of(world.cluster, world.namespace, "edge")
    world.put_token(token)
    envoy = world.envoy()
    eventually(lambda: ask(world.port, "any.example.com").status == 404, "the Gateway's listener")
    assert world.proxies(serving) == 1
    assert token not in world.log
    assert token not in envoy.get("/config_dump")
    assert "PRIVATE KEY" not in world.log


@pytest.mark.parametrize(
    ("name", "audience", "why"),
    [
        ("edge", "other", "audience 'other'"),
        ("some-pod", "fairlead", "account some-pod"),
        ("nobody", "fairlead", "no JWT"),
    ],
)
def test_an_envoy_with_another_token_is_not_and_the_log_says_why(
    world: World, name: str, audience: str, why: str
) -> None:
    serving = world.serve()
    account(world.cluster, world.namespace, "some-pod")
    token = "garbage" if name == "nobody" else token_of(world.cluster, world.namespace, name, audience=audience)
    world.put_token(token)
    envoy = world.envoy(ready=False)
    world.children.wait_until(lambda: why in world.log, what="the reason", timeout=ALLOWED)
    assert world.proxies(serving) == 0
    assert not envoy.get("/ready").startswith("LIVE")
    assert why not in envoy.child.log.read_text()


def test_a_token_that_was_replaced_is_read_again_when_a_stream_has_reached_its_age(world: World) -> None:
    serving = world.serve("serve", "--stream-max-age", "2")
    world.put_token(token_of(world.cluster, world.namespace, "edge"))
    envoy = world.envoy()
    world.put_token(token_of(world.cluster, world.namespace, "edge", audience="other"))
    world.children.wait_until(lambda: "audience 'other'" in world.log, what="the other token", timeout=ALLOWED)
    world.children.wait_until(lambda: world.proxies(serving) == 0, what="the stream to end", timeout=ALLOWED)
    assert envoy.get("/ready").startswith("LIVE"), "what it has, it keeps"
    world.put_token(token_of(world.cluster, world.namespace, "edge"))
    world.children.wait_until(lambda: world.proxies(serving) == 1, what="the next token", timeout=ALLOWED)


def test_a_new_authority_reaches_an_envoy_that_runs(world: World) -> None:
    """As after the Secret was lost with the whole installation; a rotation in time is gentler than that."""
    first = world.serve()
    world.put_token(token_of(world.cluster, world.namespace, "edge"))
    world.envoy()
    before = bundle(world.cluster, world.namespace)
    first.child.stop()
    world.children.started.remove(first.child)
    world.cluster.request("DELETE", f"/api/v1/namespaces/{world.namespace}/secrets/{SECRET}")
    second = world.serve("serve-2")
    after = eventually(
        lambda: None if (now := bundle(world.cluster, world.namespace)) == before else now, "the new authority"
    )
    assert after != before
    world.put_token(token_of(world.cluster, world.namespace, "edge"))
    world.children.wait_until(lambda: world.proxies(second) == 1, what="Envoy to trust it", timeout=ALLOWED)


async def test_while_the_api_server_is_away_a_new_envoy_is_served_for_its_tokens_signature_and_a_forged_one_is_not(
    world: World, kubeconfig: Path, tmp_path: Path
) -> None:
    bound = bound_token(world.cluster, world.namespace)
    unbound = token_of(world.cluster, world.namespace, "edge")
    async with line_to(kubeconfig, tmp_path) as (line, world.kubeconfig):
        serving = await asyncio.to_thread(world.serve)
        await until(lambda: world.holds(TOKEN_KEYS), "the keys to be stored")
        await line.cut()
        world.put_token(unbound)
        first = await asyncio.to_thread(world.envoy, ready=False)
        await until(lambda: "not bound to a pod" in world.log, "the other token to be refused", seconds=ALLOWED)
        first.child.stop()
        world.children.started.remove(first.child)
        world.put_token(bound)
        await asyncio.to_thread(world.envoy)
        assert world.proxies(serving) == 1
        assert f"a token of account {world.namespace}/edge (pod edge-1) is taken by its signature" in world.log
        assert bound not in world.log
        await asyncio.to_thread(serving.child.stop)
        world.children.started.remove(serving.child)
        again = await asyncio.to_thread(world.serve, "serve")
        await until(lambda: world.proxies(again) == 1, "the Envoy to come back to a Fairlead that was started anew")


# -- the authority -----------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = dt.datetime.now(dt.UTC)

    def __call__(self) -> dt.datetime:
        return self.now


async def test_replicas_that_start_together_agree(api: Connection, namespace: str, cluster: Cluster) -> None:
    replicas = [XdsAuthority(api, namespace=namespace, names=["localhost"]) for _ in range(5)]
    await asyncio.gather(*(replica.agree() for replica in replicas))
    assert len({replica.bundle for replica in replicas}) == 1
    assert bundle(cluster, namespace).encode() == replicas[0].bundle
    assert len({replica.certificate().key for replica in replicas}) == 5, "each has a key of its own"


async def test_a_secret_that_somebody_deleted_is_put_back_as_it_was(
    api: Connection, namespace: str, cluster: Cluster
) -> None:
    replica = XdsAuthority(api, namespace=namespace, names=["localhost"])
    await replica.agree()
    before = replica.bundle
    cluster.request("DELETE", f"/api/v1/namespaces/{namespace}/secrets/{SECRET}")
    cluster.request("DELETE", f"/api/v1/namespaces/{namespace}/configmaps/{CONFIG_MAP}")
    await replica.agree()
    assert replica.bundle == before
    assert bundle(cluster, namespace).encode() == before


async def test_a_secret_that_somebody_spoilt_is_told_of_and_neither_overwritten_nor_taken(
    api: Connection, namespace: str, cluster: Cluster
) -> None:
    replica = XdsAuthority(api, namespace=namespace, names=["localhost"])
    await replica.agree()
    before, shown = replica.bundle, replica.certificate()
    path = f"/api/v1/namespaces/{namespace}/secrets/{SECRET}"
    spoilt = {"data": {"ca.key": base64.b64encode(b"garbage").decode()}}
    cluster.request("PATCH", path, spoilt, content_type="application/merge-patch+json")
    with pytest.raises(UnreadableAuthorityError, match=r"ca\.key is no PEM key"):
        await replica.agree()
    assert cluster.get(path)["data"]["ca.key"] == spoilt["data"]["ca.key"]
    assert (replica.bundle, replica.certificate()) == (before, shown)


async def test_replicas_rotate_once_and_tell_of_it(api: Connection, namespace: str, cluster: Cluster) -> None:
    clock = Clock()
    replicas = [XdsAuthority(api, namespace=namespace, names=["localhost"], clock=clock) for _ in range(3)]
    told: list[bytes] = []
    replicas[0].listen(told.append)

    async def agree() -> bytes:
        await asyncio.gather(*(replica.agree() for replica in replicas))
        for replica in replicas:
            await replica.agree()
        assert len({replica.bundle for replica in replicas}) == 1
        return replicas[0].bundle

    first = await agree()
    clock.now += AUTHORITY_LIFE * 0.81
    both = await agree()
    assert both.startswith(first)
    assert both.count(b"BEGIN CERTIFICATE") == 2
    clock.now += OVERLAP
    assert await agree() == both, "who signs has changed, whom to trust has not"
    assert told[-1] == both
    assert len(told) == len(set(told)) == 2
    assert bundle(cluster, namespace).encode() == both


# -- reviews -----------------------------------------------------------------------------------------------------------


async def test_a_review_says_which_pod_the_token_is_bound_to_and_ends_with_the_pod(
    api: Connection, namespace: str, cluster: Cluster
) -> None:
    account(cluster, namespace, "edge")
    token = bound_token(cluster, namespace)
    uid = cluster.get(f"/api/v1/namespaces/{namespace}/pods/edge-1")["metadata"]["uid"]
    found = await TokenReviews(lambda: {"default": api}).account(token, caller="x")
    assert (found.namespace, found.name, found.pod, found.pod_uid) == (
        namespace,
        "edge",
        "edge-1",
        uid,
    )
    assert 500 < found.expires_at - dt.datetime.now(dt.UTC).timestamp() <= 601
    cluster.request("DELETE", f"/api/v1/namespaces/{namespace}/pods/edge-1?gracePeriodSeconds=0")
    path = f"/api/v1/namespaces/{namespace}/pods/edge-1"
    eventually(lambda: cluster.find(path) is None, "the pod to be gone")

    async def refused() -> bool:
        try:
            await TokenReviews(lambda: {"default": api}).account(token, caller="x")
        except BadTokenError:
            return True
        return False  # the API server remembers its own answers for ten seconds

    async with asyncio.timeout(ALLOWED):
        while not await refused():  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.2)
