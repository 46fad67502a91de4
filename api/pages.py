"""The pages for people: `/` shows the mesh, `/docs` the API. Static files without data; scripts fetch that.

The one thing filled in is which kinds of routes there are, so that the page shows every one that the server knows.

Everything is served from the package, so it works offline, and the content security policy allows nothing else.
"""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Response

from api.problems import Refusal
from mesh.kinds import KINDS
from mesh.problems import shown

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


def page_routes() -> APIRouter:
    """`/`, `/docs`, and the files they load from `/web/`."""
    contents = {entry.name: entry.read_bytes() for entry in files("api").joinpath("web").iterdir() if _type(entry.name)}
    routes = " ".join(kind.plural for kind in KINDS.values() if kind.name.endswith("Route"))
    contents["index.html"] = contents["index.html"].replace(b"{{routes}}", routes.encode())
    router = APIRouter(include_in_schema=False)

    def serve(name: str) -> Response:
        if name not in contents:
            raise Refusal(404, "NotFound", f"There is no page {shown(name)!r}.")
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache", "Content-Type": _type(name)}
        return Response(contents[name], headers=headers)

    @router.get("/")
    async def index() -> Response:
        return serve("index.html")

    @router.get("/docs")
    async def reference() -> Response:
        return serve("docs.html")

    @router.get("/web/{name}")
    async def file(name: str) -> Response:
        return serve(name)

    return router


def _type(name: str) -> str:
    return _TYPES.get(name[name.rfind(".") :], "")
