"""The paths of what follows from the configuration: discovery, proxies, distribution, explanations, health, metrics.

All read-only. Owns the mapping between HTTP and the `World`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request, Response

from api.object_routes import JSON_TYPE
from api.ports import NotFound, Question, World
from api.problems import Refusal
from api.queries import number, only
from api.rendering import encoded
from mesh.kinds import KINDS, kind_named
from mesh.model import ObjectKey
from mesh.problems import shown

MAX_HEADERS = 100
MAX_SERVICES = 10_000
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Z-]{1,40}")  # a token of RFC 9110
_REPEATED = frozenset({"header"})


def world_routes(world: World) -> APIRouter:
    """The routes."""
    router = APIRouter(include_in_schema=False)
    handlers = _Handlers(world)
    for path, handler, query in (
        ("/api/v1/proxies", handlers.proxies, ()),
        ("/api/v1/proxies/{node:path}", handlers.proxy, ()),
        ("/api/v1/explain", handlers.explain, ("gateway", "header", "method", "url")),
        ("/api/v1/effective-policies", handlers.effective_policies, ("kind", "name", "namespace")),
        ("/api/v1/authorizations", handlers.authorizations, ("caller", "namespace", "service")),
        ("/api/v1/distribution/{kind}/{namespace}/{name}", handlers.distribution, ()),
        ("/api/v1/distribution/{kind}/{name}", handlers.distribution, ()),
        ("/api/v1/discovered/services", handlers.services, ("limit", "namespace", "search")),
        ("/api/v1/discovered/endpoints", handlers.endpoints, ("namespace", "service")),
        ("/api/v1/load-reports", handlers.load_reports, ()),
        ("/api/v1/problems", handlers.problems, ()),
    ):
        router.add_api_route(path, handler, methods=["GET"], dependencies=[Depends(asked_rightly(query))])
    # probes and scrapers add parameters of their own, such as `?verbose`
    for path, handler in (
        ("/healthz", handlers.healthz),
        ("/readyz", handlers.readyz),
        ("/metrics", handlers.metrics),
    ):
        router.add_api_route(path, handler, methods=["GET"])
    return router


def asked_rightly(query: Iterable[str]) -> Callable[[Request], Awaitable[None]]:
    """A dependency that refuses parameters which a path does not take."""
    known = frozenset(query)

    async def check(request: Request) -> None:  # async: FastAPI gives any other a thread
        only(request, known, several=_REPEATED)

    return check


class _Handlers:
    def __init__(self, world: World) -> None:
        self._world = world

    async def proxies(self) -> Response:
        """Every connected proxy with its state per type."""
        return _items(self._world.proxies())

    async def proxy(self, request: Request) -> Response:
        """One proxy with what it should hold."""
        node = request.path_params["node"]
        detail = self._world.proxy(node)
        if detail is None:
            raise NotFound(f"No proxy with the node id {shown(node)!r} is connected.")
        return _json(detail)

    async def explain(self, request: Request) -> Response:
        """Where a request would go: `method`, `url`, `header` (repeated), `gateway` (`namespace/name`)."""
        query = request.query_params
        url = query.get("url", "")
        try:
            usable = urlsplit(url).path.startswith("/") or bool(urlsplit(url).netloc)
        except ValueError:
            usable = False
        if not usable:
            raise Refusal(
                400,
                "BadQuery",
                f"url={shown(url)!r} is not a URL that a request can have.",
                fix="Give for example url=http://reviews.example.com/path",
            )
        headers = tuple(_header(one) for one in query.getlist("header")[:MAX_HEADERS])
        method = query.get("method", "GET").upper()
        if not _METHOD.fullmatch(method):
            raise Refusal(
                400,
                "BadQuery",
                f"method={shown(method, 40)!r} is not a method that a request can have.",
                fix="Give for example method=GET",
            )
        question = Question(method, url, headers, query.get("gateway", ""))
        try:
            return _json(self._world.explain(question))
        except ValueError as error:
            raise Refusal(400, "BadQuery", shown(str(error), 300)) from error

    async def effective_policies(self, request: Request) -> Response:
        """What policies say of each target that one reaches: of a `kind`, a `namespace`, a `name`."""
        query = request.query_params
        wanted = {field: query[field] for field in ("kind", "namespace", "name") if field in query}
        found = self._world.effective_policies()
        return _items([told for told in found if wanted.items() <= told["target"].items()])

    async def authorizations(self, request: Request) -> Response:
        """Who may call which service: of a `namespace`, a `service`; which rule decides on a `caller` (`[ns/]name`)."""
        query = request.query_params
        space, _, name = query.get("caller", "").rpartition("/")
        found = self._world.authorizations((space, name) if name else None)
        wanted = {field: query[field] for field in ("namespace", "service") if field in query}
        return _items([told for told in found if wanted.items() <= told.items()])

    async def distribution(self, request: Request) -> Response:
        """How far an object has come: which proxies have ACKed what it makes."""
        params = request.path_params
        kind = kind_named(params["kind"])
        if kind is None:
            raise Refusal(
                404, "NotFound", f"There is no kind {shown(params['kind'])!r}.", fix=f"Kinds are {', '.join(KINDS)}"
            )
        key = ObjectKey(kind.name, params.get("namespace", "") if kind.namespaced else "", params["name"])
        found = self._world.distribution(key)
        if found is None:
            raise NotFound(f"{shown(str(key), 300)} does not exist.")
        return _json(found)

    async def services(self, request: Request) -> Response:
        """Services of the mesh, whatever source they came from: of a `namespace`, with names that contain `search`."""
        namespace = request.query_params.get("namespace")
        search = request.query_params.get("search", "")
        limit = number(request, "limit", default=MAX_SERVICES, most=MAX_SERVICES)
        found = [
            one
            for one in self._world.services()
            if namespace in {None, one.namespace} and search in f"{one.namespace}/{one.name}"
        ]
        return _json({"items": found[:limit], "metadata": {"remainingItemCount": max(0, len(found) - limit)}})

    async def endpoints(self, request: Request) -> Response:
        """Endpoints, of one namespace and one service where the query says so."""
        query = request.query_params
        return _items(self._world.endpoints(query.get("namespace"), query.get("service")))

    async def load_reports(self) -> Response:
        """What the proxies last reported of load, per cluster."""
        return _items(self._world.load_reports())

    async def problems(self) -> Response:
        """What is wrong in the sources now."""
        return _items(self._world.problems())

    async def healthz(self) -> Response:
        """That the process runs and its loop turns."""
        return _json({"status": "ok"})

    async def readyz(self) -> Response:
        """200 once every source has synced and the first build is done, else 503 and what is waited for."""
        readiness = self._world.readiness()
        body = {"status": "ready"} if readiness.ready else {"status": "waiting", "waitingFor": readiness.waiting_for}
        return Response(encoded(body), 200 if readiness.ready else 503, media_type=JSON_TYPE)

    async def metrics(self) -> Response:
        """Prometheus' text format."""
        page, content_type = self._world.metrics()
        return Response(page, headers={"Content-Type": content_type})


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise Refusal(400, "BadQuery", f"header={shown(text)!r} is no header.", fix="Give header=name:value")
    return name.strip().lower(), value.strip()


def _json(value: Any) -> Response:
    return Response(encoded(value), media_type=JSON_TYPE)


def _items(values: Any) -> Response:
    return _json({"items": values})
