"""What the writer decides to send, with an API server that takes everything; the real one is in tests/kubernetes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from discovery.kubernetes.status_writer import StatusWriter
from mesh.model import ObjectKey
from tests.support.model import Model

WEST = "kubernetes:west"
EAST = "kubernetes:east"
CLASS = "{kind: GatewayClass, metadata: {name: ours}, spec: {controllerName: fairlead.dev/gateway-controller}}"
GATEWAY = """
kind: Gateway
metadata: {name: edge, generation: 2}
spec: {gatewayClassName: ours, listeners: [{name: http, port: 80, protocol: HTTP}]}
"""
ROUTE = "{kind: HTTPRoute, metadata: {name: r, generation: 3}, spec: {parentRefs: [{name: edge}, {name: other}]}}"
KEYS = (
    ObjectKey("GatewayClass", "", "ours"),
    ObjectKey("Gateway", "default", "edge"),
    ObjectKey("HTTPRoute", "default", "r"),
)


class Taking:
    """Takes every patch, and answers with what the object then holds."""

    def __init__(self) -> None:
        self.statuses: dict[str, dict[str, Any]] = {}
        self.version = 100

    async def request(self, method: str, path: str, *, body: bytes | None = None, **_: Any) -> bytes:
        held = self.statuses.setdefault(path.removesuffix("/status").rpartition("/")[2], {})
        held.update(json.loads(body or b"{}").get("status", {}))
        self.version += 1
        return json.dumps({"metadata": {"resourceVersion": str(self.version)}, "status": held}).encode()

    def lines(self, path: str, *, query: Mapping[str, str], idle_timeout: float) -> AsyncIterator[bytes]:
        raise NotImplementedError


async def written(model_of: list[tuple[str, str]], source: str) -> dict[str, dict[str, Any]]:
    """The statuses that one cluster gets, by object, when sources declare objects."""
    api, model = Taking(), Model()
    writer = StatusWriter(api, source=source)
    writer.lead(leading=True)
    for key in KEYS:
        writer.observe(key, {"metadata": {"resourceVersion": "1"}})
    for of, text in model_of:
        writer.note(model.apply(text, source=of))
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        task = group.create_task(writer.run())
        while writer.waiting:  # noqa: ASYNC110 - the writer has nobody to tell but whoever looks
            await asyncio.sleep(0.01)
        task.cancel()
    return api.statuses


async def test_a_declaration_that_another_cluster_s_comes_before_is_told_so_in_its_own_cluster() -> None:
    declared = [(source, text) for text in (CLASS, GATEWAY, ROUTE) for source in (WEST, EAST)]
    east = await written(declared, EAST)
    assert east["edge"]["conditions"][0]["reason"] == "Accepted"
    west = await written(declared, WEST)
    for conditions, generation in (
        (west["edge"]["conditions"], 2),
        (west["r"]["parents"][0]["conditions"], 3),
    ):
        accepted = conditions[0]
        assert (accepted["type"], accepted["status"], accepted["reason"]) == ("Accepted", "False", "Shadowed")
        assert accepted["observedGeneration"] == generation
        assert accepted["message"].startswith("kubernetes:east declares it too")
    assert "listeners" not in west["edge"]


@pytest.mark.parametrize("source", ["files", "store"])
async def test_objects_of_other_sources_are_not_told_anything_in_the_cluster(source: str) -> None:
    assert await written([(source, CLASS), (source, GATEWAY), (source, ROUTE)], EAST) == {}


async def test_a_route_of_the_cluster_is_told_of_a_gateway_from_a_file() -> None:
    statuses = await written([("files", GATEWAY.replace("ours", "fairlead")), (EAST, ROUTE)], EAST)
    assert list(statuses) == ["r"]
    reasons = [parent["conditions"][0]["reason"] for parent in statuses["r"]["parents"]]
    assert reasons == ["Accepted", "NoMatchingParent"]
