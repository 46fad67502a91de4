"""Join tokens, and keys for JWT-SVIDs, in Secrets of a real cluster: of two replicas at one moment, one wins."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import grpc
import pytest

from discovery.kubernetes.api import Api
from discovery.kubernetes.connection import Connection
from discovery.kubernetes.credentials import KubeConfig
from discovery.stores.sqlite import SqliteStore
from fairlead.identities.authority_places import jwt_keys_in_secret, tokens_in_secret
from fairlead.identities.issuance import SERVICE, IssueRequest, IssueResponse
from fairlead.processes import Children
from mesh.spiffe import SpiffeId, TrustDomain
from sds.join_tokens import BadToken, JoinTokens
from sds.jwt_authority import JwtAuthority
from sds.jwt_svid import validate
from sds.keys import new_key, request_for
from sds.lifetimes import utc_now
from sds.sealing import Sealer
from tests.support.agents import Mesh
from tests.support.kubernetes import Cluster
from tests.support.kubernetes_api import Line

TD = TrustDomain("cluster.local")
REVIEWS = SpiffeId(TD, "/ns/shop/sa/reviews")
NAME = "authority"
MANY = 40


@pytest.fixture
async def lines(kubeconfig: Path) -> AsyncIterator[list[Line]]:
    """Those of two replicas."""
    connections = [Connection(KubeConfig(str(kubeconfig))) for _ in range(2)]
    yield [Line(connection) for connection in connections]
    for connection in connections:
        await connection.close()


def _same(line: Line) -> Api:
    return line


def stored(cluster: Cluster, namespace: str, name: str, key: str) -> bytes:
    data = cluster.get(f"/api/v1/namespaces/{namespace}/secrets/{name}")["data"]
    return base64.b64decode(data[key])


async def test_of_two_replicas_that_both_read_a_token_and_take_it_at_the_same_moment_one_has_it(
    cluster: Cluster, lines: list[Line], namespace: str
) -> None:
    one, two = (JoinTokens(tokens_in_secret(partial(_same, at), namespace, NAME), lambda: 1_000.0) for at in lines)
    tokens = [await (one, two)[number % 2].create(REVIEWS, 60) for number in range(MANY)]
    both = asyncio.Barrier(2)

    async def together(_method: str, _path: str) -> None:
        await both.wait()  # each has read the token as good, and writes only when the other does

    for line in lines:
        line.before, line.sent = together, []
    for token in tokens:
        async with asyncio.timeout(60):
            answers = await asyncio.gather(one.use(token), two.use(token), return_exceptions=True)
        assert answers.count(REVIEWS) == 1, answers
        assert sum(isinstance(answer, BadToken) for answer in answers) == 1, answers
    for line in lines:
        assert len(line.sent) == MANY, "a round was no race"
        line.before = None
    for token in tokens:
        with pytest.raises(BadToken):
            await one.use(token)
    assert stored(cluster, namespace, f"{NAME}-join-tokens", "join-tokens") == b"{}"


async def test_replicas_that_make_keys_for_tokens_at_the_same_moment_have_the_same(
    cluster: Cluster, lines: list[Line], namespace: str, tmp_path: Path
) -> None:
    stores = [await SqliteStore.open(tmp_path / f"{number}.db") for number in range(2)]
    sealer = Sealer(b"a passphrase of some length")
    one, two = (
        JwtAuthority(TD, jwt_keys_in_secret(partial(_same, at), namespace, "keys", store), sealer)
        for at, store in zip(lines, stores, strict=True)
    )
    both = asyncio.Barrier(2)

    async def together(_method: str, _path: str) -> None:
        await both.wait()

    for line in lines:
        line.before = together
    async with asyncio.timeout(60):
        await asyncio.gather(one.open(), two.open())
    for line in lines:
        line.before = None
    token = await one.noted_jwt(REVIEWS, ("orders",))
    assert validate(token, {TD: two.bundle()}, audience="orders", now=utc_now()).identity == REVIEWS
    new = await two.prepare()
    await one.refresh()
    assert [key.kid for key in one.bundle().jwt_keys] == [two.book.active.id, new.id]
    assert b"PRIVATE KEY" not in stored(cluster, namespace, "keys", "jwt-keys")
    for store in stores:
        await store.close()


class Replicas:
    """Two servers of one authority in a Secret."""

    def __init__(self, children: Children, cluster: Cluster, namespace: str) -> None:
        arguments = ["--kubernetes", str(cluster.kubeconfig), "--kubernetes-namespaces", namespace]
        arguments += ["--kubernetes-lease", f"{namespace}/fairlead", "--gateway-xds", "none"]
        arguments += ["--ca", f"secret:{NAME}"]
        stores = {name: f"sqlite:{children.folder / name}.db" for name in ("one", "two")}
        self.all = [
            Mesh(children, "", arguments=[*arguments, "--store", store], name=f"serve-{name}")
            for name, store in stores.items()
        ]
        self.roots = self.all[0].roots().read_bytes()

    async def ask(self, number: int, token: str) -> IssueResponse:
        """For a certificate of a server, by a join token."""
        credentials = grpc.ssl_channel_credentials(self.roots)
        async with grpc.aio.secure_channel(f"127.0.0.1:{self.all[number].join}", credentials) as channel:
            asked = IssueRequest(csr=request_for(new_key(), None), instance="machine")
            asked.clock.FromDatetime(dt.datetime.now(dt.UTC))
            call = channel.unary_unary(f"/{SERVICE}/Issue")
            metadata = (("authorization", f"Bearer {token}"),)
            raw = await call(asked.SerializeToString(), metadata=metadata, timeout=60)
        return IssueResponse.FromString(raw)


@pytest.mark.slow
async def test_a_token_shown_to_two_servers_at_once_gets_one_certificate_each_time(
    children: Children, cluster: Cluster, namespace: str
) -> None:
    replicas = await asyncio.to_thread(Replicas, children, cluster, namespace)
    for number in range(12):
        maker = replicas.all[number % 2]
        token = await asyncio.to_thread(maker.join_token, f"web-{number}")
        answers = await asyncio.gather(replicas.ask(0, token), replicas.ask(1, token), return_exceptions=True)
        [issued] = [answer for answer in answers if isinstance(answer, IssueResponse)]
        assert issued.spiffe_id == f"spiffe://cluster.local/ns/default/sa/web-{number}"
        [refused] = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
        assert refused.code() == grpc.StatusCode.UNAUTHENTICATED, refused
        assert refused.details() == "refused: the control plane's log says why"
