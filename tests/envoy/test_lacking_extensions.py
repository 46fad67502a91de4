"""An Envoy that was built without an extension: it is told of beforehand, and what it refuses stands in the status."""

from __future__ import annotations

import json

import pytest

from fairlead.processes import Children, free_port
from tests.envoy.test_envoy_patch import HOST, put, put_shop
from tests.support.programs import ask, reached, start_envoy, start_serve
from tests.support.routing import Server
from xds.schema import from_dict
from xds.schema.extensions import NEEDED, lacking
from xds.schema.types import Node

pytestmark = pytest.mark.envoy

ZSTD = "envoy.extensions.compression.zstd.compressor.v3.Zstd"
WITHOUT = ("--disable-extensions", "envoy.compression.compressor/envoy.compression.zstd.compressor")


def test_what_an_envoy_lacks_is_told_of_and_a_policy_that_needs_it_says_who_refused_it(
    children: Children, backend: Server
) -> None:
    port = free_port()
    serving = start_serve(children)
    put_shop(serving, backend.server_port, port)
    arguments = ("--log-level", "warning", "--concurrency", "1", *WITHOUT)
    envoy = start_envoy(children, "gateway", "edge", xds=serving.xds, arguments=arguments)
    children.wait_until(lambda: reached(port, HOST), what="the shop")
    listed = json.loads(envoy.get("/server_info"))["node"]["extensions"]
    known = from_dict(Node, {"extensions": listed})
    assert lacking(known) == {ZSTD}
    assert len(NEEDED) > 50
    assert lacking(Node()) == frozenset()

    def compress(*algorithms: str) -> None:
        target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "shop"}
        spec = {"targetRefs": [target], "compression": {"algorithms": list(algorithms)}}
        put(serving, "RoutePolicy", "routepolicies", "small", spec)

    def small() -> str:
        found = serving.client.get("/api/v1/namespaces/default/routepolicies/small")
        return str(found.get("status", {}))

    (proxy,) = serving.client.get("/api/v1/proxies")["items"]
    assert proxy["lacks"] == [ZSTD]
    assert f"was built without, and refuses what needs: {ZSTD}" in serving.child.log.read_text()
    compress("zstd")
    children.wait_until(lambda: ZSTD in small() and proxy["node"] in small(), what="the policy's status")
    assert ask(port, HOST).status == 200  # by the last good version
    compress("gzip")
    children.wait_until(lambda: ZSTD not in small(), what="a policy that it can take")
    assert ask(port, HOST).status == 200
