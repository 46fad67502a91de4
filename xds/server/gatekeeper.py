"""What every stream goes through before it is served, whichever the service: admission, first words, identity.

Discovery, client status and load reports all tell or take what is not for everybody, so none of them lets anybody in
by itself. Who is refused is told why, counted, and, where it is the proxy's own fault, logged: its operator looks
there first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from xds.server.admission import Admission
from xds.server.authentication import Authentication, CannotReviewError, NotAuthenticatedError, Proof, over_tls
from xds.server.hub import Hub
from xds.server.node_identity import InvalidNodeError, Proxy, identify
from xds.server.rpc import END

# A client that opens a stream and says nothing holds a place that another could use.
_FIRST_REQUEST_SECONDS: Final = 30.0
# A refused proxy comes again every few seconds: its reason is logged once in this time, and of all not too many.
_LOG_SECONDS: Final = 60.0
_LOG_LINES: Final = 50
_TOLD_TO_OPERATORS: Final = frozenset({"unauthenticated", "unreviewed", "invalid"})
# What a caller who showed a token, or nothing, is told: no more than that. The log has the reason.
_NOT_ACCEPTED: Final = "not authenticated"
_NOT_THIS_PROXY: Final = "this identity may not be the proxy that it says it is"
_COME_AGAIN: Final = "tokens cannot be reviewed now: retry in some seconds"

_log = logging.getLogger(__name__)


class RefusedError(Exception):
    """A stream that is not served: the gRPC status, what its caller is told, and the reason under which it is counted.

    `log` is for operators only; by default they read what the caller is told.
    """

    def __init__(self, code: grpc.StatusCode, message: str, reason: str, *, log: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.log = log or message


class Gatekeeper:
    """Lets streams in. Only with `plaintext`, and where they came without TLS, are clients believed."""

    def __init__(
        self,
        hub: Hub,
        admission: Admission,
        *,
        authentication: Authentication,
        plaintext: bool,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._hub = hub
        self._admission = admission
        self._authentication = authentication
        self._plaintext = plaintext
        self._wall_clock = wall_clock
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

    async def hear(self, context: Any, reports: Callable[[Proof | None], Awaitable[None]]) -> None:
        """Let in a stream of reports, and read them for as long as what its client proved its identity with is proof: a
        report is as much a claim to be somebody as a subscription. What raises `RefusedError` ends the stream by it.
        """
        try:
            await self.admit()
            proof = await self.proof(context)
            lasts = self.lasts(proof)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(lasts if lasts < math.inf else None):
                    await reports(proof)
        except RefusedError as refusal:
            await self.refuse(refusal, context)

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

    async def proof(self, context: Any) -> Proof | None:
        """Who the client has proved to be; None in plaintext, where nobody proves anything.

        Raises `RefusedError`.
        """
        auth_context = context.auth_context()
        if self._plaintext and not over_tls(auth_context):
            return None
        by_certificate = self._authentication.reviewer is None or "x509_pem_cert" in auth_context
        try:
            return await self._authentication.proof(
                auth_context, context.invocation_metadata() or (), caller=host_of(context.peer())
            )
        except NotAuthenticatedError as error:
            if by_certificate:
                raise RefusedError(grpc.StatusCode.PERMISSION_DENIED, str(error), "unauthenticated") from error
            unauthenticated = grpc.StatusCode.UNAUTHENTICATED
            raise RefusedError(unauthenticated, _NOT_ACCEPTED, "unauthenticated", log=str(error)) from error
        except CannotReviewError as error:
            raise RefusedError(grpc.StatusCode.UNAVAILABLE, _COME_AGAIN, "unreviewed", log=str(error)) from error

    def proxy(self, node: Any, proof: Proof | None, *, sotw: bool = False) -> Proxy:
        """The proxy that a node says it is, if it may be (S1); `sotw` if its stream is a state-of-the-world one.

        A proxy that does not say in which zone it runs is where its platform says. A Gateway's proxies go by their node
        too; sidecars would be an audience each.

        Raises `RefusedError`.
        """
        try:
            proxy = identify(node, sotw=sotw)
            if proof is not None:
                self._authentication.check(proof.identity, proxy)
                if proof.zone and not proxy.audience.zone:
                    proxy = replace(proxy, audience=proxy.audience._replace(zone=proof.zone))
                if proof.node and proxy.audience.kind == "gateway":
                    proxy = replace(proxy, audience=proxy.audience._replace(node=proof.node))
        except InvalidNodeError as error:
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, str(error), "invalid") from error
        except NotAuthenticatedError as error:
            told = _NOT_THIS_PROXY if proof is not None and proof.by_token else str(error)
            denied = grpc.StatusCode.PERMISSION_DENIED
            raise RefusedError(denied, told, "unauthenticated", log=str(error)) from error
        return proxy

    def lasts(self, proof: Proof | None) -> float:
        """Seconds that a stream may live on a proof: until the certificate or the token ends."""
        if proof is None:
            return math.inf
        return max(0.0, proof.expires_at - self._wall_clock())

    def stands(self, proof: Proof | None) -> bool:
        """Whether what a client has proved is still believed."""
        return proof is None or proof.by_token or self._authentication.believes(proof.chain)

    async def refuse(self, refusal: RefusedError, context: Any) -> None:
        """Count a refusal, log it and end the stream with it."""
        self._hub.telemetry.streams_refused[refusal.reason] += 1
        if refusal.reason in _TOLD_TO_OPERATORS:
            self._refusals.note(refusal.log, peer=context.peer(), now=self._hub.clock())
        await context.abort(refusal.code, str(refusal))


def host_of(peer: str) -> str:
    """The address in gRPC's name of a peer (`ipv4:192.0.2.1:4711`, `ipv6:%5B::1%5D:4711`), without the port."""
    return peer.partition(":")[2].rpartition(":")[0]


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


def read_message(kind: Any, raw: bytes) -> Any:
    """A message of a type. Raises `RefusedError`."""
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        said = f"the message is not a {kind.DESCRIPTOR.name}"
        raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, said, "invalid") from error
