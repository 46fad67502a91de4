"""The paths by which instances register themselves, for machines on which no platform tells of them.

Owns the mapping between HTTP and `api.ports.Registrations`. One PUT both registers and says "I am alive": whoever
missed that the server lost an instance puts it back with its next one.
"""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from api.bodies import Limits, read_value
from api.object_routes import JSON_TYPE
from api.ports import NotFound, Registrations, RegistrationView, YamlParser
from api.problems import invalid
from api.rendering import encoded
from api.world_routes import asked_rightly
from mesh.registered import RegistrationKey, check, check_key

ROOT = "/api/v1/registrations"
ONE = f"{ROOT}/{{namespace}}/{{service}}/{{id}}"


def registration_routes(registrations: Registrations | None, parse_yaml: YamlParser, limits: Limits) -> APIRouter:
    """The routes."""
    router = APIRouter(include_in_schema=False)
    handlers = _Handlers(registrations, parse_yaml, limits)
    for path, method, handler, query in (
        (ROOT, "GET", handlers.all, ("namespace", "service")),
        (ONE, "GET", handlers.get, ()),
        (ONE, "PUT", handlers.put, ()),
        (ONE, "DELETE", handlers.delete, ()),
    ):
        router.add_api_route(path, handler, methods=[method], dependencies=[Depends(asked_rightly(query))])
    return router


class _Handlers:
    def __init__(self, registrations: Registrations | None, parse_yaml: YamlParser, limits: Limits) -> None:
        self._known = registrations
        self._parse_yaml = parse_yaml
        self._limits = limits

    @property
    def _registrations(self) -> Registrations:
        if self._known is None:
            raise NotFound("Nothing can register here.")
        return self._known

    async def all(self, request: Request) -> Response:
        """Everything that registered, or what is of a namespace or service."""
        wanted = request.query_params
        found = await self._known.all() if self._known is not None else ()
        items = [
            _wire(view)
            for view in found
            if wanted.get("namespace", view.namespace) == view.namespace
            and wanted.get("service", view.service) == view.service
        ]
        return _json({"items": items})

    async def get(self, request: Request) -> Response:
        """One instance."""
        key = _key(request)
        view = await self._registrations.get(key)
        if view is None:
            raise _unknown(key)
        return _json(_wire(view))

    async def put(self, request: Request) -> Response:
        """Register, or say that one is alive."""
        key = _key(request)
        value = await read_value(request, parse_yaml=self._parse_yaml, limits=self._limits)
        registration, problems = check(value)
        if registration is None:
            raise invalid(problems, what="The registration")
        view = await self._registrations.put(key, registration)
        return _json(_wire(view), status=201 if view.created else 200)

    async def delete(self, request: Request) -> Response:
        """Let one leave."""
        key = _key(request)
        if not await self._registrations.delete(key):
            raise _unknown(key)
        return _json(key._asdict())


def _key(request: Request) -> RegistrationKey:
    key = RegistrationKey(*(str(request.path_params[name]) for name in RegistrationKey._fields))
    if problems := check_key(key):
        raise invalid(problems, what="The name of the instance")
    return key


def _unknown(key: RegistrationKey) -> NotFound:
    return NotFound(f"No instance {key} is registered: it never was, it left, or nothing was heard of it for too long.")


def _wire(view: RegistrationView) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(view)
    del shown["created"]
    shown |= {**shown.pop("registration"), "ttlSeconds": view.registration.ttl_seconds}
    return shown


def _json(value: Any, *, status: int = 200) -> Response:
    return Response(encoded(value), status, media_type=JSON_TYPE)
