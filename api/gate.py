"""The first thing every request meets: host, origin, token, and what every answer carries.

A plain ASGI middleware, so that watches stream through it untouched. It owns no rule about tokens (`access.py`) and
counts requests for the metrics page (`traffic.py`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access import Access
from api.problems import Refusal, log, response, understood
from api.traffic import Traffic
from mesh.problems import shown

# Pages without data, and what Kubernetes' probes ask without a token.
PUBLIC = frozenset({"/", "/docs", "/openapi.json", "/healthz", "/readyz"})
PUBLIC_PREFIX = "/web/"
READING = frozenset({"GET", "HEAD", "OPTIONS"})

_EVERYWHERE: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Gate:
    """The middleware. Handlers find who asks in `request.state.by`."""

    def __init__(self, app: ASGIApp, *, access: Access, traffic: Traffic) -> None:
        self._app = app
        self._access = access
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _EVERYWHERE.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            scope.setdefault("state", {})["by"] = self._let_in(scope)
            await self._app(scope, receive, dressed)
        except Refusal as refusal:
            await response(refusal)(scope, receive, dressed)
        except Exception as error:
            log.error("request failed: %s %s", scope["method"], shown(scope["path"]), exc_info=error)
            if status:
                raise  # half an answer is out: only closing the connection tells the client
            await response(understood(error))(scope, receive, dressed)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._traffic.count(scope["method"], route, status, time.perf_counter() - started)

    def _let_in(self, scope: Scope) -> str:
        """The name of who asks; raises Refusal."""
        headers = Headers(scope=scope)
        path: str = scope["path"]
        if self._access.open and not self._access.host_allowed(headers.get("host", "")):
            raise Refusal(
                421,
                "WrongHost",
                f"The API runs without tokens, so it answers only as localhost, not as "
                f"{shown(headers.get('host', ''))!r}.",
                fix="Ask at http://127.0.0.1, or set FAIRLEAD_API_TOKENS",
            )
        if path in PUBLIC or path.startswith(PUBLIC_PREFIX):
            return "anonymous"
        _refuse_other_sites(headers)
        if self._access.open:
            return "local"
        holder = self._access.holder(headers.get("authorization", ""))
        if holder is None:
            raise Refusal(
                401,
                "NoToken",
                "This needs a token that the server knows.",
                fix="Send Authorization: Bearer TOKEN, or give the command line --token (FAIRLEAD_TOKEN)",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if holder.role == "read" and scope["method"] not in READING:
            raise Refusal(403, "ReadOnly", f"The token of {holder.name} may only read.", fix="Use one of role write")
        return holder.name


def _refuse_other_sites(headers: Headers) -> None:
    """A browser says where a request comes from; other web sites have no business here, token or not."""
    origin = headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
    if foreign or headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
        raise Refusal(403, "OtherSite", "Requests that other web sites make a browser send are refused.")
