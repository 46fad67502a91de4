"""The application: routes, the gate before them, and problem documents for whatever goes wrong."""

from __future__ import annotations

from functools import cache

from fastapi import FastAPI, Response

from api import openapi, problems
from api.access import Access
from api.authority_routes import authority_routes
from api.bodies import DEFAULT_LIMITS, Limits
from api.feed import Feed
from api.gate import Gate
from api.object_routes import JSON_TYPE, Doors, object_routes
from api.objects import Objects
from api.pages import page_routes
from api.ports import CertificateAuthority, Config, Registrations, Rollouts, World, YamlParser
from api.registration_routes import registration_routes
from api.rendering import encoded
from api.rollout_routes import rollout_routes
from api.shared_renderings import SharedRenderings
from api.traffic import Traffic
from api.watching import Places
from api.world_routes import world_routes


def create_app(
    *,
    config: Config,
    world: World,
    feed: Feed,
    parse_yaml: YamlParser,
    access: Access,
    registrations: Registrations | None = None,
    rollouts: Rollouts | None = None,
    authority: CertificateAuthority | None = None,
    limits: Limits = DEFAULT_LIMITS,
    version: str = "0",
) -> FastAPI:
    """The ASGI application. `app.state.traffic` has its request counts (`api.traffic.Traffic`).

    Whoever serves it has asked `api.access.check_binding` first, and closes the feed before it stops the server.
    """
    app = FastAPI(title="Fairlead", version=version, openapi_url=None, docs_url=None, redoc_url=None)
    app.state.traffic = Traffic()
    app.add_middleware(Gate, access=access, traffic=app.state.traffic)
    problems.install(app)

    @cache
    def described() -> bytes:
        return encoded(openapi.document(version=version, with_tokens=not access.open))

    @app.get("/openapi.json", include_in_schema=False)
    async def description() -> Response:
        return Response(described(), media_type=JSON_TYPE)

    objects = Objects(config)
    doors = Doors(
        config=config,
        world=world,
        feed=feed,
        objects=objects,
        renderings=SharedRenderings(objects=objects, world=world, feed=feed),
        places=Places(limits.watches),
        parse_yaml=parse_yaml,
        limits=limits,
    )
    app.router.routes.append(object_routes(doors))
    app.router.routes.append(rollout_routes(doors, rollouts))
    app.include_router(world_routes(world))
    app.include_router(authority_routes(authority, parse_yaml, limits))
    app.include_router(registration_routes(registrations, parse_yaml, limits))
    app.include_router(page_routes())
    return app
