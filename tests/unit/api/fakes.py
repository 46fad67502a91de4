"""Honest in-memory doors for the API's tests, and a client that speaks ASGI in process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import msgspec
import yaml
from fastapi import FastAPI
from msgspec.structs import replace

from api.access import Access
from api.app import create_app
from api.bodies import DEFAULT_LIMITS, Limits
from api.feed import Feed
from api.ports import (
    Conflict,
    Distribution,
    EndpointView,
    Item,
    NotFound,
    Parsed,
    Past,
    ProxyDetail,
    ProxyView,
    Question,
    Readiness,
    ServiceView,
    SourceProblem,
    TypeView,
)
from mesh.kinds.meta import Object
from mesh.model import ObjectKey
from mesh.problems import Problem
from mesh.validation import validate

OPEN = Access()


def key_of(made: Object) -> ObjectKey:
    return ObjectKey(made.kind, made.metadata.namespace, made.metadata.name)


class MemoryConfig:
    """A store in a dictionary, and other sources in a list. `failure` makes every call raise."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.revision = 0
        self.items: dict[ObjectKey, Item] = {}
        self.log: dict[ObjectKey, list[Past]] = {}
        self.elsewhere: list[Item] = []
        self.failure: Exception | None = None
        self.reads = 0
        self.before_put: list[Any] = []  # run one before each put: the other writer of a race

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def get(self, key: ObjectKey) -> Item | None:
        self._check()
        self.reads += 1
        await asyncio.sleep(0)  # as a store that reads in a thread: others get their turn meanwhile
        return self.items.get(key)

    async def list(self, kind: str, namespace: str | None) -> Sequence[Item]:
        self._check()
        return [
            self.items[key] for key in sorted(self.items) if key.kind == kind and namespace in {None, key.namespace}
        ]

    async def put(self, object: Object, *, expected: int | None, by: str) -> Item:  # noqa: A002
        self._check()
        if self.before_put:
            self.before_put.pop(0)()
        key = key_of(object)
        before = self.items.get(key)
        actual = before.revision if before else 0
        if expected is not None and expected != actual:
            raise Conflict(f"{key} is at revision {actual}, not {expected}", actual=actual)
        self.revision += 1
        metadata = replace(
            object.metadata,
            resource_version=str(self.revision),
            generation=1,
            uid="u",
            creation_timestamp="2026-11-23T06:00:00Z",
        )
        location = f"store@{self.revision}"
        item = Item(replace(object, metadata=metadata), "store", self.revision, location, created=before is None)
        self.items[key] = item
        self.log.setdefault(key, []).insert(0, Past(self.revision, item.object, by, "2026-11-23T06:00:00Z"))
        self.feed.publish([key])
        return item

    async def delete(self, key: ObjectKey, *, expected: int | None, by: str) -> int:
        self._check()
        before = self.items.get(key)
        if before is None:
            raise NotFound(f"{key} does not exist")
        if expected is not None and expected != before.revision:
            raise Conflict(f"{key} is at revision {before.revision}", actual=before.revision)
        self.revision += 1
        del self.items[key]
        self.log[key].insert(0, Past(self.revision, None, by, "2026-11-23T06:00:00Z"))
        self.feed.publish([key])
        return self.revision

    async def history(self, key: ObjectKey, *, limit: int) -> Sequence[Past]:
        self._check()
        return self.log.get(key, [])[:limit]

    async def past(self, key: ObjectKey, revision: int) -> Past | None:
        self._check()
        return next((past for past in self.log.get(key, ()) if past.revision == revision), None)

    def others(self, key: ObjectKey) -> Sequence[Item]:
        found = [item for item in self.elsewhere if key_of(item.object) == key]
        return sorted(found, key=lambda item: not item.source.startswith("kubernetes"))

    def others_of_kind(self, kind: str, namespace: str | None) -> Sequence[Item]:
        found = [
            item
            for item in self.elsewhere
            if item.object.kind == kind and namespace in {None, item.object.metadata.namespace}
        ]
        return sorted(found, key=lambda item: not item.source.startswith("kubernetes"))


class MemoryWorld:
    def __init__(self) -> None:
        self.statuses: dict[ObjectKey, Mapping[str, Any]] = {}
        self.ready = Readiness(ready=True)
        self.found_problems: list[SourceProblem] = []
        self.asked: list[Question] = []
        refused = TypeView("ERROR", 1, 0, "def", "bad <regex>", {"reviews": ("stats_matcher",)})
        types = {"CDS": TypeView("SYNCED", 2, 2, "abc"), "RDS": refused}
        self.known_proxies = [
            ProxyView("gateway~default~edge~1", "gateway", "default", "edge", "2026-11-23T06:00:00Z", types)
        ]

    def status(self, key: ObjectKey) -> Mapping[str, Any] | None:
        return self.statuses.get(key)

    def services(self) -> Sequence[ServiceView]:
        ports = ({"name": "http", "port": 80, "protocol": "HTTP"},)
        return [ServiceView("default", name, ports, ("files",), 3, 2) for name in ("ratings", "reviews")]

    def endpoints(self, namespace: str | None, service: str | None) -> Sequence[EndpointView]:
        rows = [EndpointView("default", "reviews", "127.0.0.1", {"http": 9001}, "Healthy", 1)]
        return [row for row in rows if namespace in {None, row.namespace} and service in {None, row.service}]

    def proxies(self) -> Sequence[ProxyView]:
        return self.known_proxies

    def proxy(self, node: str) -> ProxyDetail | None:
        return next((ProxyDetail(proxy, {}) for proxy in self.known_proxies if proxy.node == node), None)

    def distribution(self, key: ObjectKey) -> Distribution | None:
        return Distribution(7, True, 1, 1) if key.name == "reviews" else None

    def authorizations(self, caller: tuple[str, str] | None) -> Sequence[Mapping[str, Any]]:
        rules = [{"caller": {"name": "web"}, "action": "ALLOW"}] if caller in (None, ("", "web")) else []
        return [
            {"namespace": "default", "service": "db", "rules": rules},
            {"namespace": "shop", "service": "reviews", "rules": rules},
        ]

    def effective_policies(self) -> Sequence[Mapping[str, Any]]:
        targets = [{"kind": kind, "namespace": "default", "name": "reviews"} for kind in ("Service", "ServiceSubset")]
        return [{"policy": "TrafficPolicy", "target": target, "settings": {}, "origins": {}} for target in targets]

    def explain(self, question: Question) -> Mapping[str, Any]:
        self.asked.append(question)
        if question.gateway == "default/nowhere":
            raise NotFound("There is no Gateway default/nowhere.")
        if "bad" in question.url:
            raise ValueError("the host is not a host")
        return {"listener": "http"}

    def load_reports(self) -> Sequence[Mapping[str, Any]]:
        return []

    def problems(self) -> Sequence[SourceProblem]:
        return self.found_problems

    def readiness(self) -> Readiness:
        return self.ready

    def metrics(self) -> tuple[bytes, str]:
        return b"fairlead_up 1\n", "text/plain; version=0.0.4; charset=utf-8"


def parse_yaml(text: str) -> Parsed:
    try:
        return Parsed(tuple(one for one in yaml.safe_load_all(text) if one is not None))
    except yaml.YAMLError as error:
        return Parsed((), (Problem("NotYAML", "error", "", str(error).splitlines()[0], "mend it"),))


def made(raw: Any) -> Object:
    checked = validate(raw)
    assert checked.object is not None, checked.problems
    return checked.object


def file_item(raw: dict[str, Any], source: str = "files") -> Item:
    """An object that a file declares."""
    return Item(made(raw), source, 0, "routes/reviews.yaml:1")


def codes(answer: Any) -> list[str]:
    """The problems that a refusal tells."""
    return [problem["code"] for problem in answer.json["problems"]]


class Answer(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Client:
    """Requests to an ASGI app in process; bodies may come in pieces, or never."""

    def __init__(self, app: FastAPI, *, token: str = "") -> None:
        self.app = app
        self.headers = {"host": "localhost:8080"}
        if token:
            self.headers["authorization"] = f"Bearer {token}"

    def _scope(self, method: str, url: str, headers: Mapping[str, str]) -> dict[str, Any]:
        path, _, query = url.partition("?")
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": quote(path, safe="/%~:@").encode(),
            "query_string": query.encode("ascii", "replace"),
            "root_path": "",
            "headers": [
                (k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in {**self.headers, **headers}.items()
            ],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8080),
        }

    async def request(
        self,
        method: str,
        url: str,
        *,
        json: Any = None,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        hang: bool = False,
    ) -> Answer:
        sent = dict(headers or {})
        if json is not None:
            body = msgspec.json.encode(json)
            sent.setdefault("content-type", "application/json")
        pieces = [body] if isinstance(body, bytes) else list(body or [])
        status, found, content = 0, {}, bytearray()

        async def receive() -> dict[str, Any]:
            if pieces:
                piece = pieces.pop(0)
                return {"type": "http.request", "body": piece, "more_body": bool(pieces) or hang}
            if hang:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                found.update({k.decode(): v.decode("latin-1") for k, v in message["headers"]})
            else:
                content.extend(message.get("body", b""))

        await self.app(self._scope(method, url, sent), receive, send)
        return Answer(status, found, bytes(content))

    async def get(self, url: str, **headers: str) -> Answer:
        return await self.request("GET", url, headers={k.replace("_", "-"): v for k, v in headers.items()})

    async def put(self, url: str, json: Any, **headers: str) -> Answer:
        return await self.request("PUT", url, json=json, headers={k.replace("_", "-"): v for k, v in headers.items()})

    async def patch(self, url: str, json: Any, **headers: str) -> Answer:
        return await self.request("PATCH", url, json=json, headers={k.replace("_", "-"): v for k, v in headers.items()})

    async def post(self, url: str, json: Any, **headers: str) -> Answer:
        return await self.request("POST", url, json=json, headers={k.replace("_", "-"): v for k, v in headers.items()})

    async def delete(self, url: str, **headers: str) -> Answer:
        return await self.request("DELETE", url, headers={k.replace("_", "-"): v for k, v in headers.items()})

    @asynccontextmanager
    async def stream(self, url: str, **headers: str) -> AsyncIterator[Events]:
        """Server-sent events as they come; leaving the block is the client going away."""
        arrived: asyncio.Queue[bytes] = asyncio.Queue()
        gone = asyncio.Event()
        asked = False

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                await arrived.put(message.get("body", b""))

        scope = self._scope("GET", url, {k.replace("_", "-"): v for k, v in headers.items()})
        task = asyncio.get_running_loop().create_task(self.app(scope, receive, send))  # type: ignore[arg-type]
        try:
            yield Events(arrived, task)
        finally:
            gone.set()
            await asyncio.wait_for(task, 10)


class Event(msgspec.Struct):
    name: str
    data: Any
    id: str | None


class Events:
    def __init__(self, arrived: asyncio.Queue[bytes], task: asyncio.Task[Any]) -> None:
        self._arrived = arrived
        self.task = task

    async def next(self) -> Event:
        while True:
            block = (await asyncio.wait_for(self._arrived.get(), 10)).decode()
            fields = dict(line.split(": ", 1) for line in block.strip().splitlines() if not line.startswith(":"))
            if fields:
                return Event(fields["event"], msgspec.json.decode(fields["data"]), fields.get("id"))

    async def change(self) -> Event:
        """The next event that tells of an object."""
        while (event := await self.next()).name == "SYNCED":
            pass
        return event

    async def until(self, name: str) -> list[Event]:
        found = []
        while True:
            found.append(await self.next())
            if found[-1].name == name:
                return found


class Fixture(msgspec.Struct):
    config: MemoryConfig
    world: MemoryWorld
    feed: Feed
    app: FastAPI
    client: Client


def fixture(*, access: Access = OPEN, limits: Limits = DEFAULT_LIMITS, token: str = "", ring: int = 100) -> Fixture:
    feed = Feed("e1", ring=ring)
    config, world = MemoryConfig(feed), MemoryWorld()
    app = create_app(
        config=config, world=world, feed=feed, parse_yaml=parse_yaml, access=access, limits=limits, version="1"
    )
    return Fixture(config, world, feed, app, Client(app, token=token))


def service(name: str = "reviews", port: int = 80, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default", **metadata},
        "spec": {
            "ports": [{"name": "http", "port": port}],
            "endpoints": [{"address": "127.0.0.1", "ports": {"http": 9001}}],
        },
    }


def route(name: str = "reviews", rules: list[Any] | None = None) -> dict[str, Any]:
    backends = [
        {"name": "reviews", "port": 80, "weight": 90},
        {"group": "fairlead.dev", "kind": "ServiceSubset", "name": "reviews-v2", "port": 80, "weight": 10},
    ]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"parentRefs": [{"name": "edge"}], "rules": rules or [{"backendRefs": backends}]},
    }
