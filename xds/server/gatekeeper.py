"""What every stream goes through before it is served, whichever the service: admission, first words, identity.

Discovery, client status and load reports all tell or take what is not for everybody, so none of them lets anybody in
by itself. Who is refused is told why, counted, and, where it is the proxy's own fault, logged: its operator looks
there first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import grpc

from xds.server.admission import Admission
from xds.server.authentication import Authentication, Identity, NotAuthenticatedError
from xds.server.hub import Hub
from xds.server.node_identity import InvalidNodeError, Proxy, identify
from xds.server.rpc import END

# A client that opens a stream and says nothing holds a place that another could use.
_FIRST_REQUEST_SECONDS: Final = 30.0
# A refused proxy comes again every few seconds: its reason is logged once in this time, and of all not too many.
_LOG_SECONDS: Final = 60.0
_LOG_LINES: Final = 50
_TOLD_TO_OPERATORS: Final = frozenset({"unauthenticated", "invalid"})

_log = logging.getLogger(__name__)


class RefusedError(Exception):
    """A stream that is not served: the gRPC status, and the reason under which it is counted."""

    def __init__(self, code: grpc.StatusCode, message: str, reason: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class Gatekeeper:
    """Lets streams in. Without `authentication` (plaintext) clients are believed."""

    def __init__(self, hub: Hub, admission: Admission, *, authentication: Authentication | None = None) -> None:
        self._hub = hub
        self._admission = admission
        self._authentication = authentication
        self._closed = False
        self._refusals = RefusalLog()

    def close(self) -> None:
        """Let no more streams in."""
        self._closed = True

    async def admit(self) -> None:
        """Wait for a stream's turn.

        Raises `RefusedError`.
        """
        if self._closed:
            raise RefusedError(grpc.StatusCode.UNAVAILABLE, "this server is shutting down: connect again", "draining")
        if not self._hub.ready:
            raise RefusedError(grpc.StatusCode.UNAVAILABLE, f"not ready: {self._hub.not_ready_because}", "not_ready")
        wait = self._admission.wait(self._hub.clock())
        if wait is None:
            raise RefusedError(
                grpc.StatusCode.UNAVAILABLE, "too many proxies are connecting at once: retry in some seconds", "busy"
            )
        if wait:
            await asyncio.sleep(wait)

    async def first_message(self, context: Any) -> bytes:
        """The first message of a stream.

        Raises `RefusedError`.
        """
        try:
            async with asyncio.timeout(_FIRST_REQUEST_SECONDS):
                first = await context.read()
        except TimeoutError as error:
            raise RefusedError(grpc.StatusCode.DEADLINE_EXCEEDED, "no request came on this stream", "silent") from error
        if first is END:
            raise RefusedError(
                grpc.StatusCode.INVALID_ARGUMENT, "the stream was closed before its first request", "silent"
            )
        message: bytes = first
        return message

    def identity(self, auth_context: Mapping[str, Sequence[bytes]]) -> Identity | None:
        """Who the client has proved to be; None in plaintext, where nobody proves anything.

        Raises `RefusedError`.
        """
        if self._authentication is None:
            return None
        try:
            return self._authentication.identity(auth_context)
        except NotAuthenticatedError as error:
            raise RefusedError(grpc.StatusCode.PERMISSION_DENIED, str(error), "unauthenticated") from error

    def proxy(self, node: Any, auth_context: Mapping[str, Sequence[bytes]], *, sotw: bool = False) -> Proxy:
        """The proxy that a node says it is, if it may be (S1); `sotw` if its stream is a state-of-the-world one.

        Raises `RefusedError`.
        """
        identity = self.identity(auth_context)
        try:
            proxy = identify(node, sotw=sotw)
            if self._authentication is not None and identity is not None:
                self._authentication.check(identity, proxy)
        except InvalidNodeError as error:
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, str(error), "invalid") from error
        except NotAuthenticatedError as error:
            raise RefusedError(grpc.StatusCode.PERMISSION_DENIED, str(error), "unauthenticated") from error
        return proxy

    async def refuse(self, refusal: RefusedError, context: Any) -> None:
        """Count a refusal, log it and end the stream with it."""
        self._hub.telemetry.streams_refused[refusal.reason] += 1
        if refusal.reason in _TOLD_TO_OPERATORS:
            self._refusals.note(str(refusal), peer=context.peer(), now=self._hub.clock())
        await context.abort(refusal.code, str(refusal))


class RefusalLog:
    """Logs refusals so that neither an eager proxy nor an attacker can fill the disk."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._left_out = 0
        self._until = 0.0

    def note(self, text: str, *, peer: str, now: float) -> None:
        """Log a refusal, unless it was lately, or there were too many."""
        if now >= self._until:
            if self._left_out:
                _log.warning("refused %d more streams", self._left_out)
            self._told, self._left_out, self._until = set(), 0, now + _LOG_SECONDS
        if text in self._told:
            return
        if len(self._told) >= _LOG_LINES:
            self._left_out += 1
            return
        self._told.add(text)
        _log.warning("refused a stream from %s: %s", peer, text)
