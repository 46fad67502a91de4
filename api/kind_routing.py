"""Finds the route of a config object by the plural in its path.

FastAPI tries its routes one after the other; the hundred of the kinds cost half a millisecond of every request, which
is a tenth of what a change of an endpoint may take on its way to Envoy. So they stand here, by plural, as Starlette's
plain routes: their handlers take the request and return the response, and leave FastAPI nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

PREFIX = "/api/v1"
_NAMESPACED = "namespaces"


class KindRoutes(BaseRoute):
    """The routes of all kinds as one. Each path is `/api/v1/[namespaces/{namespace}/]PLURAL[/…]`."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._by_plural: dict[str, list[Route]] = {}
        for route in routes:
            self._by_plural.setdefault(_plural(route.path), []).append(route)

    def __iter__(self) -> Iterator[Route]:
        return (route for routes in self._by_plural.values() for route in routes)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """The route that fits path and method, else one that fits the path, with the methods `allowed` there."""
        best: tuple[Match, Scope] = Match.NONE, {}
        if scope["type"] != "http":
            return best
        allowed: set[str] = set()
        for route in self._by_plural.get(_plural(scope["path"]), ()):
            match, found = route.matches(scope)
            if match is Match.FULL:
                return match, {**found, "route": route}
            if match is Match.PARTIAL:
                allowed |= route.methods or set()
                best = match, {**found, "route": route, "allowed": allowed}
        return best

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what `matches` found; 405 names the methods of every route with that path, not of one."""
        if scope["method"] in (scope["route"].methods or ()):
            await scope["route"].handle(scope, receive, send)
        else:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(scope["allowed"]))})


def _plural(path: str) -> str:
    if not path.startswith(PREFIX + "/"):
        return ""
    first, *rest = path[len(PREFIX) + 1 :].split("/", 3)
    return first if first != _NAMESPACED or len(rest) < 2 else rest[1]
