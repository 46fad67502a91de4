"""Certificates for workloads, on the port that proxies come to: who calls, what they get, and what they are told.

The decisions are in `sds/issuing.py` and the authority; here is the gRPC shell (`xds/schema/protos/identity.proto`).
A caller proves itself by the certificate that is to be renewed, by a token that its platform reviews, or by a join
token. Who fails is told that it failed; why is for the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from fairlead.identities.root_gate import Seen
from mesh.spiffe import SpiffeId
from sds.authority import Authority, AuthorityUnavailable, RefusedIssue
from sds.bundle import write_jwks
from sds.certificates import BACKDATE
from sds.issuing import Limiter, RefusedRequest, public_key_of
from sds.join_tokens import BadToken, JoinTokens, is_join_token
from sds.jwt_authority import JwtAuthority
from sds.jwt_svid import DEFAULT_LIFE
from sds.keepers import BookUnavailable, UnreadableBook
from sds.lifetimes import DEFAULT, utc_now
from xds.schema import message
from xds.server.authentication import (
    Authentication,
    CannotReviewError,
    NotAuthenticatedError,
    bearer_token,
    over_tls,
)
from xds.server.gatekeeper import RefusalLog, host_of
from xds.server.rpc import END, stream_method, unary_method

SERVICE: Final = "fairlead.identity.v1.WorkloadIdentity"
IssueRequest = message("fairlead.identity.v1.IssueRequest")
IssueResponse = message("fairlead.identity.v1.IssueResponse")
IssueJwtRequest = message("fairlead.identity.v1.IssueJwtRequest")
IssueJwtResponse = message("fairlead.identity.v1.IssueJwtResponse")
Bundles = message("fairlead.identity.v1.Bundles")
BundleAck = message("fairlead.identity.v1.BundleAck")

_REFUSED: Final = "refused: the control plane's log says why"
_AGAIN: Final = "not now: ask again in some seconds"
_CLOCKS: Final = "not now: the clock here and the control plane's are minutes apart. Fix: set them (NTP)"
_WORTH_WAITING: Final = dt.timedelta(seconds=60)
_log = logging.getLogger(__name__)


class _ClocksApartError(Exception):
    """A caller and we have different times; the text is for the log."""


class _TooOftenError(Exception):
    """A caller asks too often; the text is for the log."""


class Issuance:
    """The service. `authority` is asked when it is needed, for it is opened later; None: nobody signs here.

    So is `jwt`, which signs JWT-SVIDs.
    """

    def __init__(
        self,
        authority: Callable[[], Authority | None],
        jwt: Callable[[], JwtAuthority | None],
        authentication: Authentication,
        join_tokens: JoinTokens,
        bundles: Callable[[], Mapping[str, tuple[bytes, bool]]],
        left: Callable[[str, bool | None], None],
        *,
        life: dt.timedelta = DEFAULT,
        clock: Callable[[], dt.datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`bundles` gives the roots of each trust domain (PEM), and whether it is ours. `left` is told of every agent
        that has no stream any more, and whether it has what is to be trusted now in force, and of every one that is
        given a certificate, of which that is not known (None). `life` is how long certificates live where nobody asks
        for another life.
        """
        self._authority = authority
        self._jwt = jwt
        self._authentication = authentication
        self._join_tokens = join_tokens
        self._bundles = bundles
        self._left = left
        self._life = life
        self._clock = clock
        self._monotonic = monotonic
        self._limiter = Limiter()
        self._jwt_limiter = Limiter(burst=100.0, per_second=20.0)  # each audience of a workload has its own
        self._strangers = Limiter(burst=20.0)
        self._refusals = RefusalLog()
        self._changed = asyncio.Event()
        self._agents: dict[object, tuple[str, str]] = {}

    def methods(self) -> Mapping[str, Mapping[str, Any]]:
        """The service and its methods."""
        return {
            SERVICE: {
                "Issue": unary_method(self._issue),
                "IssueJwt": unary_method(self._issue_jwt),
                "FollowBundles": stream_method(self._follow),
            }
        }

    def note_bundles(self) -> None:
        """What is to be trusted has changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    def seen(self) -> Seen:
        """Which agents have not said yet that they put the present bundle in force."""
        version = self.message().version
        names = frozenset(name for name, _ in self._agents.values())  # of one with two streams, the older one counts
        lacking = frozenset(name for name, acked in self._agents.values() if acked != version)
        return Seen(lacking, names)

    def message(self) -> Any:
        """What to trust now."""
        made = Bundles()
        for name, (roots, own) in sorted(self._bundles().items()):
            if own:
                made.roots = roots
            else:
                made.federated[name] = roots
        authority = self._authority()
        if authority is not None:
            bundle = authority.bundle()
            made.tainted.extend(sorted(bundle.tainted))
            if bundle.jwt_keys:
                made.jwks[bundle.trust_domain.name] = write_jwks(bundle)
        made.version = _digest(made)
        return made

    # -- who calls ------------------------------------------------------------------------------------------------

    async def _caller(self, context: Any, request: bytes | None) -> SpiffeId:
        """Who calls, for a certificate by this `request`, or else for what no join token is good for.

        Raises:
            NotAuthenticatedError: nobody that can be known.
            CannotReviewError: it cannot be told now.
            _ClocksApartError, _TooOftenError, RefusedRequest: a certificate would be of no use, or is not to be had so;
                a join token is not spent.
        """
        auth_context = context.auth_context()
        if "x509_pem_cert" in auth_context:
            identity = self._authentication.identity(auth_context)
            if request is not None:
                self._in_turn(identity)
            return identity
        token = bearer_token(context.invocation_metadata() or ())
        if not token:
            raise NotAuthenticatedError("neither a client certificate nor a token (`authorization: Bearer …`)")
        if not over_tls(auth_context):
            raise NotAuthenticatedError("a token came in plaintext, where anybody may have read it")
        if is_join_token(token):
            if request is None:
                raise NotAuthenticatedError("a join token is good for a certificate and for nothing else")
            asked = self._in_time(request)

            def may(identity: SpiffeId) -> None:
                public_key_of(asked.csr, identity)
                self._in_turn(identity)

            try:
                return await self._join_tokens.use(token, may)
            except BadToken as error:
                raise NotAuthenticatedError(str(error)) from None
            except (BookUnavailable, UnreadableBook) as error:
                raise CannotReviewError(f"whether a join token is good cannot be told now: {error}") from None
        reviewer = self._authentication.reviewer
        if reviewer is None:
            raise NotAuthenticatedError("nobody here reviews tokens of platforms")
        identity = self._authentication.named(await reviewer.review(token, caller=host_of(context.peer())))
        if request is not None:
            self._in_turn(identity)
        return identity

    def _in_turn(self, identity: SpiffeId) -> None:
        """Count what an identity asks for. Raises _TooOftenError."""
        if not self._limiter.allow(str(identity), self._monotonic()):
            raise _TooOftenError(f"{identity} asks too often")

    async def _known(self, context: Any, request: bytes | None = None) -> SpiffeId:
        """The caller (see `_caller`); ends the call where there is none."""
        host = host_of(context.peer())
        stranger = "x509_pem_cert" not in context.auth_context()
        if stranger and not self._strangers.allow(host, self._monotonic()):
            await self._refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, f"{host} asks too often", _AGAIN)
        try:
            return await self._caller(context, request)
        except NotAuthenticatedError as error:
            await self._refuse(context, grpc.StatusCode.UNAUTHENTICATED, str(error))
        except CannotReviewError as error:
            await self._refuse(context, grpc.StatusCode.UNAVAILABLE, str(error), _AGAIN)
        except _ClocksApartError as error:
            await self._refuse(context, grpc.StatusCode.UNAVAILABLE, str(error), _CLOCKS)
        except _TooOftenError as error:
            await self._refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), _AGAIN)
        except RefusedRequest as error:
            await self._refuse(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        raise AssertionError("aborting raises")

    def _in_time(self, request: bytes) -> Any:
        """The request. Spend no join token on a certificate that would not have begun where it is asked for, or ended.

        Raises:
            _ClocksApartError: so it would be.
            NotAuthenticatedError: it is no request at all.
        """
        try:
            asked = IssueRequest.FromString(request)
            there = asked.clock.ToDatetime(dt.UTC) if asked.HasField("clock") else self._clock()
        except (DecodeError, ValueError, OverflowError):
            raise NotAuthenticatedError("what came with a join token is no request for a certificate") from None
        life = dt.timedelta(seconds=min(asked.lifetime_seconds, 1 << 32)) if asked.lifetime_seconds else self._life
        ahead = self._clock() - there
        if not -life < ahead < BACKDATE + _WORTH_WAITING:
            raise _ClocksApartError(
                f"the clock here is {ahead.total_seconds():.0f} s ahead of the caller's; its join token is not spent"
            )
        return asked

    async def _refuse(self, context: Any, code: grpc.StatusCode, why: str, told: str = _REFUSED) -> None:
        self._refusals.note(f"no certificate: {why}", peer=context.peer(), now=self._monotonic())
        await context.abort(code, told)

    # -- the methods ----------------------------------------------------------------------------------------------

    async def _issue(self, request: bytes, context: Any) -> bytes:
        authority = self._authority()
        if authority is None:
            await self._refuse(context, grpc.StatusCode.UNIMPLEMENTED, "no authority (--ca)", "no authority here")
            raise AssertionError("aborting raises")
        identity = await self._known(context, request)
        try:
            asked = IssueRequest.FromString(request)
            public_key = public_key_of(asked.csr, identity)
            lifetime = dt.timedelta(seconds=min(asked.lifetime_seconds, 1 << 32)) if asked.lifetime_seconds else None
            issued = await authority.issue(public_key, identity, lifetime=lifetime, request=asked.csr)
        except (DecodeError, RefusedRequest, RefusedIssue) as error:
            await self._refuse(context, grpc.StatusCode.INVALID_ARGUMENT, f"{identity}: {error}")
        except AuthorityUnavailable as error:
            with contextlib.suppress(BookUnavailable, UnreadableBook):
                await self._join_tokens.give_back(bearer_token(context.invocation_metadata() or ()))
            await self._refuse(context, grpc.StatusCode.UNAVAILABLE, f"{identity}: {error}", _AGAIN)
        answer = IssueResponse(chain=issued.chain, spiffe_id=str(identity))
        answer.not_before.FromDatetime(issued.not_before)
        answer.not_after.FromDatetime(issued.not_after)
        answer.bundles.CopyFrom(self.message())
        encoded: bytes = answer.SerializeToString()
        self._left(_name(identity, asked.instance), None)
        return encoded

    async def _issue_jwt(self, request: bytes, context: Any) -> bytes:
        identity = await self._known(context)
        authority = self._jwt()
        if authority is None:
            why = "nobody signs JWT-SVIDs here (the server's --ca-jwt-keys)"
            await self._refuse(context, grpc.StatusCode.UNIMPLEMENTED, f"{identity}: {why}", why)
        assert authority is not None  # aborting raises
        if not self._jwt_limiter.allow(str(identity), self._monotonic()):
            code = grpc.StatusCode.RESOURCE_EXHAUSTED
            await self._refuse(context, code, f"{identity} asks too often for JWT-SVIDs", _AGAIN)
        try:
            token = await authority.noted_jwt(identity, tuple(IssueJwtRequest.FromString(request).audiences))
        except (DecodeError, RefusedIssue) as error:
            await self._refuse(context, grpc.StatusCode.INVALID_ARGUMENT, f"{identity}: {error}", str(error)[:200])
        except AuthorityUnavailable as error:
            await self._refuse(context, grpc.StatusCode.UNAVAILABLE, f"{identity}: {error}", _AGAIN)
        answer = IssueJwtResponse(token=token, spiffe_id=str(identity))
        answer.not_after.FromDatetime(self._clock() + DEFAULT_LIFE)
        encoded: bytes = answer.SerializeToString()
        return encoded

    async def _follow(self, _: Any, context: Any) -> None:
        identity = await self._known(context)
        first = await context.read()
        if first is END:
            return
        stream = object()
        try:
            async with asyncio.TaskGroup() as tasks:
                telling = tasks.create_task(self._tell(context))
                await self._acknowledge(stream, identity, first, context)
                telling.cancel()
        except* DecodeError:
            await self._refuse(context, grpc.StatusCode.INVALID_ARGUMENT, f"{identity} sends what is no BundleAck")
        finally:
            if agent := self._agents.pop(stream, None):
                self._left(agent[0], agent[1] == self.message().version)

    async def _tell(self, context: Any) -> None:
        """Write what to trust, at once and whenever it changes, without end."""
        sent = ""
        while True:
            changed = self._changed
            now = self.message()
            if now.version != sent:
                sent = now.version
                await context.write(now.SerializeToString())
            await changed.wait()

    async def _acknowledge(self, stream: object, identity: SpiffeId, first: bytes, context: Any) -> None:
        said: Any = first
        while said is not END:
            ack = BundleAck.FromString(said)
            self._agents[stream] = _name(identity, ack.instance), ack.version
            said = await context.read()


def _name(identity: SpiffeId, instance: str) -> str:
    """Of an agent, as people are told of it."""
    return f"agent {identity} {instance[:100] if instance.isprintable() else ''}"


def _digest(made: Any) -> str:
    content = made.SerializeToString(deterministic=True)
    return hashlib.sha256(content).hexdigest()[:16]
