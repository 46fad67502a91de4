"""Two replicas that sign by the same files, with keys for JWT-SVIDs in Consul: what one signs the other vouches for."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from fairlead.identities.agent_jwt import JwtBundlesResponse, JwtSvidRequest, JwtSvidResponse
from fairlead.processes import Children
from mesh.spiffe import TrustDomain
from sds.bundle import read_jwks
from sds.certificates import new_root, to_pem
from sds.jwt_svid import validate
from sds.keys import new_key
from tests.consul.test_shared_authority import NAMES, Pair
from tests.support.agents import Mesh

pytestmark = pytest.mark.slow

TD = TrustDomain("cluster.local")
HEADER = (("workload.spiffe.io", "true"),)
ASKED = JwtSvidRequest(audience=["orders"]).SerializeToString()


class Files(Pair):
    """A pair whose authority is a folder of files, and agents' sockets."""

    def __init__(self, children: Children, binary: Path) -> None:
        self.folder = children.folder / "files"
        self.folder.mkdir(exist_ok=True)
        root = new_root(TD, new_key(), now=dt.datetime.now(dt.UTC), lifetime=dt.timedelta(days=30))
        for name, content in (
            ("tls.crt", to_pem(root.certificate)),
            ("ca.crt", to_pem(root.certificate)),
            ("tls.key", root.key.pem().pem),
        ):
            (self.folder / name).write_bytes(content)
        super().__init__(children, binary)

    def _mesh(self, name: str) -> Mesh:
        store = f"consul://127.0.0.1:{self.consul.port}/mesh/config"
        flags = ["--store", store, "--store-local", str(self.children.folder / f"{name}.db")]
        flags += ["--ca", f"files:{self.folder}", "--ca-jwt-keys", "store"]
        return Mesh(self.children, "", life=3_600, arguments=flags, name=f"serve-{name}")

    def _channel(self, name: str) -> grpc.Channel:
        return grpc.insecure_channel(f"unix:{self.children.folder / f'agent-{name}' / 'sds.sock'}")

    def token(self, name: str) -> str:
        """What the agent of a replica gives its workload."""
        with self._channel(name) as channel:
            raw = channel.unary_unary("/SpiffeWorkloadAPI/FetchJWTSVID")(ASKED, metadata=HEADER, timeout=20)
        token: str = JwtSvidResponse.FromString(raw).svids[0].svid
        return token

    def keys(self, name: str) -> Iterator[bytes]:
        """The keys that the agent of a replica says to judge tokens by, now and after each change."""
        with self._channel(name) as channel:
            for raw in channel.unary_stream("/SpiffeWorkloadAPI/FetchJWTBundles")(b"", metadata=HEADER, timeout=60):
                yield JwtBundlesResponse.FromString(raw).bundles["spiffe://cluster.local"]

    def kids(self, name: str) -> dict[str, str]:
        return {one["id"]: one["state"] for one in self.status(name)["jwtAuthorities"]}


def said(token: str, keys: bytes) -> Any:
    now = dt.datetime.now(dt.UTC)
    return str(validate(token, {TD: read_jwks(keys, TD)}, audience="orders", now=now).identity)


def test_tokens_of_one_replica_are_judged_by_the_keys_of_the_other_also_after_a_step_to_another_key(
    children: Children, consul: Path
) -> None:
    pair = Files(children, consul)
    following = {name: pair.keys(name) for name in NAMES}
    web = "spiffe://cluster.local/ns/default/sa/web"
    first = {name: pair.token(name) for name in NAMES}
    keys = {name: next(following[name]) for name in NAMES}
    assert said(first["one"], keys["two"]) == said(first["two"], keys["one"]) == web
    assert pair.kids("one") == pair.kids("two")

    # A key was stolen: another signs at once, and the old one vouches for nothing any more, at both.
    [old] = pair.kids("one")
    new = pair.step("two", "prepare")["id"]
    pair.until(lambda: pair.kids("one").get(new) == "prepared", "the other replica to publish it")
    pair.step("two", f"{new}/activate?override=true")
    pair.step("one", f"{old}/revoke?override=true")
    pair.until(lambda: pair.kids("two") == {old: "revoked", new: "active"}, "the replicas to agree")
    for name in NAMES:
        keys[name] = next(now for now in following[name] if old.encode() not in now)
    second = {name: pair.token(name) for name in NAMES}
    assert said(second["one"], keys["two"]) == said(second["two"], keys["one"]) == web
    with pytest.raises(ValueError, match="is none of"):
        said(first["one"], keys["two"])
    [stored] = [value for key, value in pair.stored().items() if key == "mesh/config/authority/jwt-keys"]
    assert b"PRIVATE KEY" not in stored
