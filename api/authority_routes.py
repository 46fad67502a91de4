"""The paths of the authority that signs workloads' certificates: what it is, and the steps of its rotation.

Owns the mapping between HTTP and `api.ports.CertificateAuthority`. No key comes through here, in either direction.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from api.bodies import Limits, read_value
from api.object_routes import JSON_TYPE
from api.ports import CertificateAuthority, NotFound, YamlParser
from api.problems import Refusal
from api.queries import flag
from api.rendering import encoded
from api.world_routes import asked_rightly
from mesh.problems import shown

ROOT = "/api/v1/authority"
STEPS = ("activate", "taint", "revoke")

_log = logging.getLogger("fairlead.api")


def authority_routes(authority: CertificateAuthority | None, parse_yaml: YamlParser, limits: Limits) -> APIRouter:
    """The routes; without an authority they say so."""
    router = APIRouter(include_in_schema=False)
    handlers = _Handlers(authority, parse_yaml, limits)
    for path, method, handler, query in (
        (ROOT, "GET", handlers.status, ()),
        (f"{ROOT}/bundle", "GET", handlers.bundle, ()),
        (f"{ROOT}/proxies", "GET", handlers.compare, ()),
        (f"{ROOT}/join-tokens", "POST", handlers.join_token, ()),
        (f"{ROOT}/request", "POST", handlers.request, ()),
        (f"{ROOT}/prepare", "POST", handlers.prepare, ()),
        ("/api/v1/federation", "GET", handlers.federation, ()),
        ("/api/v1/federation/{name}/refresh", "POST", handlers.refresh, ()),
        (f"{ROOT}/{{name}}/activate", "POST", handlers.activate, ("override",)),
        (f"{ROOT}/{{name}}/taint", "POST", handlers.taint, ()),
        (f"{ROOT}/{{name}}/revoke", "POST", handlers.revoke, ("override",)),
    ):
        router.add_api_route(path, handler, methods=[method], dependencies=[Depends(asked_rightly(query))])
    return router


class _Handlers:
    def __init__(self, authority: CertificateAuthority | None, parse_yaml: YamlParser, limits: Limits) -> None:
        self._known = authority
        self._parse_yaml = parse_yaml
        self._limits = limits

    @property
    def _authority(self) -> CertificateAuthority:
        if self._known is None:
            raise NotFound("This server has no authority. Start it with --ca.")
        return self._known

    async def status(self) -> Response:
        """The authorities and what they wait for."""
        return _json(self._authority.status())

    async def bundle(self) -> Response:
        """What to trust."""
        return Response(self._authority.bundle(), media_type=JSON_TYPE)

    async def compare(self) -> Response:
        """Which proxies trust what they should."""
        return _json({"items": self._authority.compare()})

    async def federation(self) -> Response:
        """The trust domains that we federate with."""
        return _json({"items": self._known.federation() if self._known is not None else []})

    async def refresh(self, request: Request) -> Response:
        """Fetch the bundle of one."""
        return _json(await self._authority.refresh(str(request.path_params["name"])))

    async def request(self) -> Response:
        """A request for an offline root to sign."""
        return _json({"request": await self._authority.request()})

    async def prepare(self, request: Request) -> Response:
        """Spread a new authority."""
        authority = self._authority
        value = await read_value(request, parse_yaml=self._parse_yaml, limits=self._limits)
        chain = value.get("chain", "") if isinstance(value, dict) and value.keys() <= {"chain"} else None
        if not isinstance(chain, str):
            raise Refusal(
                422, "Invalid", "The body is not what is expected here.", fix='Send {} or {"chain": "PEM certificates"}'
            )
        return _json(await authority.prepare(chain))

    async def join_token(self, request: Request) -> Response:
        """Let a machine in for its first certificate."""
        authority = self._authority
        value = await read_value(request, parse_yaml=self._parse_yaml, limits=self._limits)
        named = isinstance(value, dict) and value.keys() <= {"namespace", "serviceAccount", "ttlSeconds"}
        account = value.get("serviceAccount") if named else None
        namespace, ttl = (value.get("namespace", "default"), value.get("ttlSeconds", 600)) if named else (None, None)
        if not isinstance(account, str) or not isinstance(namespace, str) or type(ttl) not in (int, float):
            fix = 'Send {"serviceAccount": "reviews", "namespace": "default", "ttlSeconds": 600}'
            raise Refusal(422, "Invalid", "The body is not what is expected here.", fix=fix)
        _log.info("authority: %s makes a join token for %s/%s", request.state.by, shown(namespace), shown(account))
        return _json(await authority.join_token(namespace, account, float(ttl or 0)))

    async def activate(self, request: Request) -> Response:
        """Let a prepared authority sign."""
        name, by = _asked(request, "activate")
        return _json(await self._authority.activate(name, override=flag(request, "override"), by=by))

    async def taint(self, request: Request) -> Response:
        """Have what an old one signed replaced."""
        name, by = _asked(request, "taint")
        return _json(await self._authority.taint(name, by=by))

    async def revoke(self, request: Request) -> Response:
        """Trust one no more."""
        name, by = _asked(request, "revoke")
        return _json(await self._authority.revoke(name, override=flag(request, "override"), by=by))


def _asked(request: Request, step: str) -> tuple[str, str]:
    """The authority that is named, and who asks; each such request is on record."""
    name, by = str(request.path_params["name"]), str(request.state.by)
    _log.info("authority %s: %s asks to %s it (%s)", shown(name), shown(by), step, shown(str(request.query_params)))
    return name, by


def _json(value: Mapping[str, Any]) -> Response:
    return Response(encoded(value), media_type=JSON_TYPE)
