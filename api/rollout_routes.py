"""The paths by which people take a Rollout in hand.

    POST /api/v1/namespaces/{namespace}/rollouts/{name}/pause|resume|promote|abort

Owns the mapping between HTTP and `api.ports.Rollouts`. They are answered with the object; how far it is, is its status.
A body means nothing here and is not read. Unlike a write they work for objects of every source: nothing of the object
changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import Request, Response
from starlette.routing import Route

from api import queries
from api.kind_routing import PREFIX, KindRoutes
from api.object_routes import JSON_TYPE, Doors, Handler
from api.ports import NotFound, Rollouts
from api.rendering import encoded, shown_object
from mesh.model import ObjectKey, RolloutState
from mesh.rollout_json import rollout_from_json
from mesh.rollout_machine import COMMANDS, Command

_ONE = f"{PREFIX}/namespaces/{{namespace}}/rollouts/{{name}}"
# Until the model has taken in what a command did, so that the answer shows that, and not how far it was before: it goes
# ahead of everything else.
_SEEN_WITHIN = 0.5
_PAUSE = 0.01


def rollout_routes(doors: Doors, rollouts: Rollouts | None) -> KindRoutes:
    """The routes."""
    return KindRoutes(_routes(doors, rollouts))


def _routes(doors: Doors, rollouts: Rollouts | None) -> Iterator[Route]:
    for command in COMMANDS:
        yield Route(f"{_ONE}/{command}", _handler(doors, rollouts, command), methods=["POST"])


def _handler(doors: Doors, rollouts: Rollouts | None, command: Command) -> Handler:
    async def ordered(request: Request) -> Response:
        queries.only(request, frozenset())
        key = ObjectKey("Rollout", request.path_params["namespace"], request.path_params["name"])
        item = await doors.objects.read(key)
        if rollouts is None:
            raise NotFound("Nothing moves Rollouts here.")
        reached = await rollouts.order(key, command)
        left = _SEEN_WITHIN
        while not _shows(status := doors.world.status(key), reached) and left > 0:
            await asyncio.sleep(_PAUSE)
            left -= _PAUSE
        return Response(encoded(shown_object(item, status)), media_type=JSON_TYPE)

    return ordered


def _shows(status: Mapping[str, Any] | None, reached: RolloutState) -> bool:
    """Whether a status tells of this state, or of one after it."""
    told = rollout_from_json(status.get("rollout")) if status is not None else None
    return told is not None and (told.term, told.revision) >= (reached.term, reached.revision)
