"""The paths of the config kinds: one set for each kind of the registry, all alike.

    /api/v1/namespaces/{namespace}/{plural}[/{name}[/history|/rollback]]    namespaced kinds
    /api/v1/{plural}                                                        their lists over all namespaces
    /api/v1/{plural}[/{name}[/history|/rollback]]                           cluster-scoped kinds
    /api/v1/namespaces/{namespace}/httproutes/{name}/split                  weights of one rule

Owns the mapping between HTTP and `Objects`, nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import msgspec
from fastapi import Request, Response
from starlette.routing import Route

from api import queries
from api.bodies import Limits, read_value
from api.conditions import condition, not_modified
from api.feed import Feed
from api.kind_routing import PREFIX, KindRoutes
from api.labels import Requirement, selected, selector
from api.merge_patch import merged
from api.objects import Objects, Removed, Written, as_written, key_of
from api.ports import Config, Item, World, YamlParser
from api.problems import Refusal, invalid, shown_problem
from api.redaction import marks
from api.rendering import encoded, etag, shown_name, shown_object, shown_past
from api.shared_renderings import AT_ONCE, SharedRenderings
from api.watching import EventStream, Places, Watch
from api.weights import shifted
from mesh.kinds import KINDS, Kind
from mesh.kinds.httproute import HTTPRoute
from mesh.kinds.meta import Object
from mesh.model import ObjectKey
from mesh.problems import Problem, shown
from mesh.validations.metadata import is_dns_label, is_name

MAX_LIST = 10_000
MAX_HISTORY = 1000
JSON_TYPE = "application/json"
LIST_QUERY = ("labelSelector", "limit", "continue", "watch")
WRITE_QUERY = ("dryRun",)
_PAGING = frozenset({"limit", "continue"})

Handler = Callable[[Request], Awaitable[Response]]


class Doors(msgspec.Struct, frozen=True):
    """What the handlers of all routes share."""

    config: Config
    world: World
    feed: Feed
    objects: Objects
    renderings: SharedRenderings
    places: Places
    parse_yaml: YamlParser
    limits: Limits


def object_routes(doors: Doors) -> KindRoutes:
    """The routes of every kind."""
    return KindRoutes(route for kind in KINDS.values() for route in _routes(kind, doors))


def _routes(kind: Kind, doors: Doors) -> Iterator[Route]:
    handlers = _Handlers(kind, doors)
    root = f"{PREFIX}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"{PREFIX}/{kind.plural}"
    one = f"{root}/{{name}}"
    for path, method, handler, query in (
        (root, "GET", handlers.list, LIST_QUERY),
        (one, "GET", handlers.read, ()),
        (one, "PUT", handlers.put, WRITE_QUERY),
        (one, "PATCH", handlers.patch, WRITE_QUERY),
        (one, "DELETE", handlers.delete, WRITE_QUERY),
        (f"{one}/history", "GET", handlers.history, ("limit",)),
        (f"{one}/rollback", "POST", handlers.rollback, WRITE_QUERY),
    ):
        yield Route(path, _asked_rightly(handler, query), methods=[method])
    if kind.namespaced:
        yield Route(f"{PREFIX}/{kind.plural}", _asked_rightly(handlers.list, LIST_QUERY), methods=["GET"])
    if kind.name == "HTTPRoute":
        yield Route(f"{one}/split", _asked_rightly(handlers.split, WRITE_QUERY), methods=["POST"])


def _asked_rightly(handler: Handler, query: Iterable[str]) -> Handler:
    """A handler that refuses query parameters other than those."""
    known = frozenset(query)

    async def checked(request: Request) -> Response:
        queries.only(request, known)
        return await handler(request)

    return checked


class _Handlers:
    """The handlers of one kind."""

    def __init__(self, kind: Kind, doors: Doors) -> None:
        self._kind = kind
        self._doors = doors

    async def list(self, request: Request) -> Response:
        """All objects, or a page of them, or with `watch=true` a stream."""
        namespace = request.path_params.get("namespace")
        labels = selector(request.query_params.get("labelSelector", ""))
        if queries.flag(request, "watch"):
            return self._watch(request, namespace, labels)
        limit = queries.number(request, "limit", default=MAX_LIST, most=MAX_LIST)
        after = _continuation(request.query_params.get("continue", ""), self._kind)
        found = [
            item
            for item in await self._doors.objects.list(self._kind.name, namespace)
            if (item.object.metadata.namespace, item.object.metadata.name) > after
            and selected(item.object.metadata.labels, labels)
        ]
        metadata: dict[str, Any] = {}
        if len(found) > limit:
            last = found[limit - 1].object.metadata
            metadata = {"continue": f"{last.namespace}/{last.name}", "remainingItemCount": len(found) - limit}
        items = []
        for number, item in enumerate(found[:limit], 1):
            items.append(self._shown(item))
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        body = {
            "apiVersion": self._kind.api_version,
            "kind": f"{self._kind.name}List",
            "metadata": metadata,
            "items": items,
        }
        return Response(encoded(body), media_type=JSON_TYPE)

    def _watch(self, request: Request, namespace: str | None, labels: tuple[Requirement, ...]) -> Response:
        if paging := sorted(_PAGING & request.query_params.keys()):
            raise Refusal(
                400, "BadQuery", f"A watch has no pages: {paging[0]} means nothing with it.", fix="Leave it out"
            )
        if not self._doors.places.free:
            raise Refusal(
                503,
                "TooManyWatches",
                f"There are {self._doors.limits.watches} watches already.",
                fix="End some, or come back later",
                headers={"Retry-After": "10"},
            )
        watch = Watch(
            renderings=self._doors.renderings,
            feed=self._doors.feed,
            kind=self._kind.name,
            namespace=namespace,
            labels=labels,
            last_event_id=request.headers.get("last-event-id", ""),
        )
        pieces = self._doors.places.within(watch.pieces)
        return EventStream(pieces, stalled_seconds=self._doors.limits.stalled_seconds)

    async def read(self, request: Request) -> Response:
        """One object with its status; 304 for a reader that has it."""
        item = await self._doors.objects.read(self._key(request))
        wire = self._shown(item)
        tag = etag(item, wire)
        if not_modified(request.headers, tag):
            return Response(status_code=304, headers={"ETag": tag})
        return Response(encoded(wire), media_type=JSON_TYPE, headers={"ETag": tag})

    async def put(self, request: Request) -> Response:
        """Create or replace."""
        dry_run = queries.dry_run(request)
        raw = await read_value(request, parse_yaml=self._doors.parse_yaml, limits=self._doors.limits)
        written = await self._doors.objects.write(
            self._key(request),
            raw,
            condition=condition(request.headers, raw),
            by=request.state.by,
            dry_run=dry_run,
        )
        return self._answer(written, dry_run=dry_run)

    async def patch(self, request: Request) -> Response:
        """Change by JSON merge patch."""
        patch = await read_value(request, parse_yaml=self._doors.parse_yaml, limits=self._doors.limits, patch=True)
        if not isinstance(patch, dict):
            raise Refusal(422, "WrongType", "A merge patch must be an object.", fix='Send for example {"spec": {…}}')
        if redacted := list(marks({**patch, "kind": self._kind.name})):
            raise invalid(redacted, what="The patch")
        return await self._changed(request, lambda made: merged(as_written(made), patch), patch)

    async def split(self, request: Request) -> Response:
        """Shift weights between the backends of one rule."""
        wish = await self._fields(request, required=("weights",), optional=("rule",))
        rule, weights = wish.get("rule"), wish["weights"]
        return await self._changed(request, lambda made: as_written(shifted(cast("HTTPRoute", made), rule, weights)))

    async def _changed(self, request: Request, change: Callable[[Object], Any], body: Any = None) -> Response:
        dry_run = queries.dry_run(request)
        written = await self._doors.objects.change(
            self._key(request),
            change,
            condition=condition(request.headers, body),
            by=request.state.by,
            dry_run=dry_run,
        )
        return self._answer(written, dry_run=dry_run)

    async def delete(self, request: Request) -> Response:
        """Delete from the store."""
        key = self._key(request)
        removed: Removed = await self._doors.objects.remove(
            key,
            condition=condition(request.headers),
            by=request.state.by,
            dry_run=queries.dry_run(request),
        )
        body = {**shown_name(key), "revision": removed.revision}
        if removed.warnings:
            body["warnings"] = [shown_problem(problem) for problem in removed.warnings]
        return Response(encoded(body), media_type=JSON_TYPE, headers=_warned(removed.warnings))

    async def history(self, request: Request) -> Response:
        """The revisions of an object, newest first; of a deleted one too."""
        key = self._key(request)
        limit = queries.number(request, "limit", default=100, most=MAX_HISTORY)
        found = await self._doors.config.history(key, limit=limit)
        if not found:
            await self._doors.objects.read(key)  # an object of another source has no history; anything else is 404
        return Response(encoded({"items": [shown_past(past) for past in found]}), media_type=JSON_TYPE)

    async def rollback(self, request: Request) -> Response:
        """Write an older revision again."""
        dry_run = queries.dry_run(request)
        wish = await self._fields(request, required=("revision",))
        revision = wish["revision"]
        if isinstance(revision, bool) or not isinstance(revision, int) or not 0 < revision < 2**63:
            raise Refusal(
                422, "WrongType", "revision must be a number from the history.", fix="GET …/history lists them"
            )
        written = await self._doors.objects.roll_back(
            self._key(request),
            revision,
            condition=condition(request.headers),
            by=request.state.by,
            dry_run=dry_run,
        )
        return self._answer(written, dry_run=dry_run)

    async def _fields(
        self, request: Request, *, required: tuple[str, ...], optional: tuple[str, ...] = ()
    ) -> Mapping[str, Any]:
        value = await read_value(request, parse_yaml=self._doors.parse_yaml, limits=self._doors.limits)
        names = (*required, *optional)
        problems = []
        if not isinstance(value, dict):
            problems.append(
                Problem("WrongType", "error", "", "must be an object", f"with the fields {', '.join(names)}")
            )
            value = {}
        else:
            problems.extend(
                Problem("UnknownField", "error", shown(str(name)), "is not known here", f"known are {', '.join(names)}")
                for name in value
                if name not in names
            )
            problems.extend(
                Problem("MissingField", "error", name, "is missing", "add it") for name in required if name not in value
            )
        if problems:
            raise invalid(problems, what="The body")
        return cast("Mapping[str, Any]", value)

    def _key(self, request: Request) -> ObjectKey:
        return ObjectKey(self._kind.name, request.path_params.get("namespace", ""), request.path_params["name"])

    def _shown(self, item: Item) -> dict[str, Any]:
        return shown_object(item, self._doors.world.status(key_of(item)))

    def _answer(self, written: Written, *, dry_run: bool) -> Response:
        """What a write made. What was only tried has no status of its own, and no ETag that will ever be."""
        status = None if dry_run else self._doors.world.status(key_of(written.item))
        wire = shown_object(written.item, status, warnings=written.warnings, changes=written.changes)
        headers = _warned(written.warnings)
        if not dry_run:
            headers["ETag"] = f'"{written.item.revision}"'
        return Response(encoded(wire), 201 if written.created else 200, headers, JSON_TYPE)


def _continuation(text: str, kind: Kind) -> tuple[str, str]:
    """Namespace and name of the last object of the page before; empty for the first page. Raises Refusal."""
    if not text:
        return "", ""
    namespace, _, name = text.partition("/")
    if not is_name(name) or not (is_dns_label(namespace) if kind.namespaced else text == f"/{name}"):
        raise Refusal(
            400,
            "BadQuery",
            f"continue={shown(text)} is not where a page of these ended.",
            fix="Send metadata.continue of the page before, or leave it out",
        )
    return namespace, name


def _warned(warnings: tuple[Problem, ...]) -> dict[str, str]:
    """The `Warning` header, as Kubernetes sends it: code 299, printable ASCII."""
    if not warnings:
        return {}
    plain = (shown(str(problem), 300).encode("ascii", "replace").decode() for problem in warnings[:5])
    texts = (text.replace("\\", "/").replace('"', "'") for text in plain)
    return {"Warning": ", ".join(f'299 fairlead "{text}"' for text in texts)}
