"""Scripted xDS clients and a tiny mesh for them: tests of the protocol say what a client does, step by step.

`TinyMesh` is a real engine whose resource tables are inputs, so that a test states the resources and nothing else.
`Client` speaks to a real server over a real connection; `node` makes what it introduces itself with.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Self

import grpc
import grpc.aio
from grpc._cython import cygrpc

from mesh.model import Audience
from mesh.tables import Change, Engine, Input
from xds.protocol.ordering import PATIENCE, Patience
from xds.resources import Resource, ResourceKey, View, ViewKey
from xds.schema import any_bytes, version_of
from xds.schema.type_urls import (
    TYPE_CLUSTER,
    TYPE_ENDPOINT,
    TYPE_LISTENER,
    TYPE_ROUTE,
    TYPE_SCOPED_ROUTE,
    TYPE_SECRET,
)
from xds.schema.types import (
    Cluster,
    ClusterLoadAssignment,
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
    Node,
)
from xds.server.hub import Hub
from xds.server.serve import Limits, XdsServer
from xds.server.server_certificates import Tls

TYPES = (TYPE_CLUSTER, TYPE_ENDPOINT, TYPE_LISTENER, TYPE_SCOPED_ROUTE, TYPE_ROUTE, TYPE_SECRET)
EDGE = Audience("gateway", "default", "edge")
ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
WAIT = 10.0
# Long enough that a response which should not come would have come.
QUIET = 0.2


def resource(type_url: str, message: Any, *, needs: Iterable[str] = (), eds: str = "") -> Resource:
    """A row of the resource tables from an Envoy message."""
    content = any_bytes(message)
    name = message.cluster_name if type_url == TYPE_ENDPOINT else message.name
    return Resource(type_url, name, version_of(content), content, needs=tuple(needs), eds=eds)


def cluster(name: str, *, timeout: int = 5) -> Resource:
    """An EDS cluster; another timeout makes another version."""
    message = Cluster(name=name, type=3)
    message.connect_timeout.seconds = timeout
    message.eds_cluster_config.eds_config.ads.SetInParent()
    message.eds_cluster_config.eds_config.resource_api_version = 2
    return resource(TYPE_CLUSTER, message, eds=name)


def assignment(name: str, *ports: int) -> Resource:
    """Endpoints on 127.0.0.1."""
    message = ClusterLoadAssignment(cluster_name=name)
    locality = message.endpoints.add()
    for port in ports:
        address = locality.lb_endpoints.add().endpoint.address.socket_address
        address.address, address.port_value = "127.0.0.1", port
    return resource(TYPE_ENDPOINT, message)


class TinyMesh:
    """An engine of input tables, and a hub that is told of every commit."""

    def __init__(self, *, patience: Patience = PATIENCE, types: Iterable[str] = TYPES, **hub: Any) -> None:
        self.views: Input[ViewKey, View] = Input("views")
        self.types = tuple(types)
        self.tables: dict[str, Input[ResourceKey, Resource]] = {type_url: Input(type_url) for type_url in self.types}
        self.engine = Engine([*self.tables.values(), self.views])
        self.hub = Hub({url: (table,) for url, table in self.tables.items()}, self.views, patience=patience, **hub)
        self.contents: dict[Audience, dict[str, dict[str, Resource]]] = {}
        self.publish([])
        self.hub.open()

    def publish(self, changes: Iterable[Change], event_at: float | None = None) -> None:
        self.hub.publish(self.engine.commit(changes), self.engine, event_at=event_at)

    def put(self, *resources: Resource, remove: Iterable[tuple[str, str]] = (), audience: Audience = EDGE) -> None:
        """Add or change resources, and remove others, of one audience (which is then known).

        A gateway gets the same over SotW: what it should have is for translation to decide, not for the server.
        """
        contents = self.contents.setdefault(audience, {url: {} for url in self.types})
        changes = []
        for row in resources:
            contents[row.type_url][row.name] = row
            changes.append(Change(self.tables[row.type_url], self._key(row.type_url, row.name, audience), row))
        for type_url, name in remove:
            del contents[type_url][name]
            changes.append(Change(self.tables[type_url], self._key(type_url, name, audience), None))
        for type_url, rows in contents.items():
            keys = tuple(sorted(self._key(type_url, name, audience) for name in rows))
            changes += [Change(self.views, ViewKey(each, type_url), View(keys)) for each in _variants(audience)]
        self.publish(changes)

    def view(self, view: View, type_url: str, audience: Audience = EDGE) -> None:
        """Set a view as it stands, overrides and all."""
        self.publish([Change(self.views, ViewKey(each, type_url), view) for each in _variants(audience)])

    @staticmethod
    def _key(type_url: str, name: str, audience: Audience) -> ResourceKey:
        shared = type_url in (TYPE_CLUSTER, TYPE_ENDPOINT)
        return ResourceKey(type_url, name, "" if shared else f"{audience.kind}/{audience.namespace}/{audience.name}")


def _variants(audience: Audience) -> tuple[Audience, ...]:
    return (audience, audience._replace(sotw=True)) if audience.kind == "gateway" else (audience,)


@contextlib.asynccontextmanager
async def serving(
    mesh: TinyMesh, *, limits: Limits | None = None, tls: Tls | None = None, port: int = 0
) -> AsyncIterator[XdsServer]:
    """A running server for a mesh, on a free port."""
    server = XdsServer(mesh.hub, f"127.0.0.1:{port}", limits=limits, tls=tls)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(0.1)


def node(node_id: str = "gateway~default~edge~1", metadata: Mapping[str, Any] | None = None, **fields: Any) -> Any:
    """A `Node`; `metadata` is what stands under `fairlead`."""
    made = Node(id=node_id, **fields)
    if metadata is not None:
        made.metadata.update({"fairlead": dict(metadata)})
    return made


def delta_request(type_url: str = "", **fields: Any) -> Any:
    """A `DeltaDiscoveryRequest`; `subscribe`, `unsubscribe`, `versions`, `nonce`, `error`, `node`."""
    request = DeltaDiscoveryRequest(type_url=type_url, response_nonce=fields.get("nonce", ""))
    request.resource_names_subscribe.extend(fields.get("subscribe", ()))
    request.resource_names_unsubscribe.extend(fields.get("unsubscribe", ()))
    request.initial_resource_versions.update(fields.get("versions", {}))
    return _with_common(request, fields)


def sotw_request(type_url: str = "", **fields: Any) -> Any:
    """A `DiscoveryRequest`; `names`, `version`, `nonce`, `error`, `node`."""
    request = DiscoveryRequest(
        type_url=type_url, response_nonce=fields.get("nonce", ""), version_info=fields.get("version", "")
    )
    request.resource_names.extend(fields.get("names", ()))
    return _with_common(request, fields)


def _with_common(request: Any, fields: Mapping[str, Any]) -> Any:
    if fields.get("node") is not None:
        request.node.CopyFrom(fields["node"])
    if fields.get("error") is not None:
        request.error_detail.code, request.error_detail.message = 13, fields["error"]
    return request


class Client:
    """One stream. Every wait has a deadline; `quiet` asserts that nothing comes."""

    def __init__(self, port: int, *, variant: str = "delta", method: str = "", channel: Any = None) -> None:
        self.variant = variant
        self._channel = channel or grpc.aio.insecure_channel(
            f"127.0.0.1:{port}",
            options=[("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)],
        )
        name = method or ADS + ("DeltaAggregatedResources" if variant == "delta" else "StreamAggregatedResources")
        self._call = self._channel.stream_stream(name)()
        self._pending: asyncio.Task[Any] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._call.cancel()
        await self._channel.close()

    async def send(self, type_url: str = "", **fields: Any) -> None:
        make = delta_request if self.variant == "delta" else sotw_request
        await self.send_raw(make(type_url, **fields).SerializeToString())

    async def send_raw(self, raw: bytes) -> None:
        """Send a message; that the server has ended the stream meanwhile is for `ended` to tell."""
        async with asyncio.timeout(WAIT):
            await self._call._metadata_sent.wait()
            # Not `write`: where the server's end and the message cross, that puts INTERNAL of its own making ("Internal
            # error from Core", 4 of 1,500 streams on a busy machine) in the place of the server's status.
            with contextlib.suppress(cygrpc.InternalError):
                if not self._call.done():
                    await self._call._cython_call.send_serialized_message(raw)

    def cancel(self) -> None:
        """Break the stream off."""
        self._call.cancel()

    async def receive(self) -> Any:
        async with asyncio.timeout(WAIT):
            raw = await (self._pending or self._call.read())
        self._pending = None
        assert isinstance(raw, bytes), "the stream has ended"
        return (DeltaDiscoveryResponse if self.variant == "delta" else DiscoveryResponse).FromString(raw)

    async def ack(self, response: Any, **fields: Any) -> None:
        await self.send(response.type_url, nonce=response.nonce, **fields)

    async def receive_and_ack(self, **fields: Any) -> Any:
        response = await self.receive()
        await self.ack(response, **fields)
        return response

    async def quiet(self) -> None:
        """Assert that no response comes for a while; the read that waits for it goes on."""
        self._pending = self._pending or asyncio.get_running_loop().create_task(self._call.read())
        done, _ = await asyncio.wait([self._pending], timeout=QUIET)
        assert not done, f"unexpected: {self._pending.result()!r}"

    async def ended(self) -> tuple[grpc.StatusCode, str]:
        """Wait for the end of the stream: its status and details."""
        async with asyncio.timeout(WAIT):
            code = await self._call.code()
            return code, await self._call.details()


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that the server does in its own time."""
    async with asyncio.timeout(WAIT):
        while not condition():  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.005)


def names(response: Any) -> list[str]:
    """The names in a delta response, sorted."""
    return sorted(one.name for one in response.resources)


def versions(response: Any) -> dict[str, str]:
    """Name → version in a delta response."""
    return {one.name: one.version for one in response.resources}
