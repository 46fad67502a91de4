"""Whose a service account token is: asked of the clusters' API servers (TokenReview), with little asking.

What a token says of itself is not believed while anybody can be asked; it only spares questions: one that has ended, or
was made for another audience, is nobody's without asking, and its issuer tells which cluster to ask first. What an API
server said of a good token holds for a short time, longer only while no API server can be reached, and never beyond the
token's end. Answers are remembered under a hash; tokens themselves are kept nowhere and logged never.

Where the API server of a token's cluster cannot be reached, and it never told of that token, the token's signature
stands in (`token_keys.py`), for minutes and within narrow limits. What an API server has refused stays refused.

Floods cost nobody else anything: one question per token at a time, a bounded number at once, and an address whose
tokens were bad too often has to wait.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec

from discovery.kubernetes.api import Api, ApiError, UnreachableError
from discovery.kubernetes.token_keys import HOLDS_SECONDS, ForgedError, Signed, UnknownKeyError

_log = logging.getLogger(__name__)

PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
AUDIENCE: Final = "fairlead"

_ACCOUNT: Final = re.compile(r"system:serviceaccount:([a-z0-9][a-z0-9-]{0,62}):([a-z0-9][a-z0-9.-]{0,252})")
_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"
_NODE_NAME: Final = "authentication.kubernetes.io/node-name"
_GROUP: Final = "system:serviceaccounts"

_GOOD_SECONDS: Final = 60.0
_BAD_SECONDS: Final = 5.0
_REMEMBERED: Final = 10_000
_AT_ONCE: Final = 16
_WAITING: Final = 1_000
_TIMEOUT: Final = 5.0
# Bad tokens that an address may show before it has to wait, and how fast that is forgiven.
_BAD_BURST: Final = 20.0
_FORGIVEN_PER_SECOND: Final = 0.5
_SAY_EVERY: Final = 60.0


class BadTokenError(Exception):
    """Nobody's token, or not for us. The text says why, for the log."""


class NoReviewError(Exception):
    """Nobody could be asked, or the caller has to wait. `away`: the clusters whose API servers cannot be reached."""

    def __init__(self, words: str, *, away: tuple[str, ...] = ()) -> None:
        super().__init__(words)
        self.away = away


class Signatures(Protocol):
    """Tells what a token says that a cluster has signed (`key_ring.KeyRing`)."""

    def signed(self, cluster: str, token: str, *, audience: str, now: float) -> Signed: ...  # noqa: D102


class Account(msgspec.Struct, frozen=True):
    """Whose a good token is. `expires_at` is in seconds since the epoch; `node` runs its pod, where that is told."""

    namespace: str
    name: str
    expires_at: float
    pod: str = ""
    pod_uid: str = ""
    cluster: str = ""
    node: str = ""


class Claims(msgspec.Struct, frozen=True):
    """What a token says of itself, unverified: hints."""

    iss: str = ""
    aud: str | list[str] = ""
    exp: float = 0.0

    @property
    def audiences(self) -> tuple[str, ...]:
        """Whom it is for."""
        named = (self.aud,) if isinstance(self.aud, str) else tuple(self.aud)
        return tuple(each for each in named if each)


class _User(msgspec.Struct, frozen=True):
    username: str = ""
    groups: list[str] = []
    extra: dict[str, list[str]] = {}


class _ReviewStatus(msgspec.Struct, frozen=True):
    authenticated: bool = False
    audiences: list[str] = []
    user: _User = _User()
    error: str = ""


class _Review(msgspec.Struct, frozen=True):
    status: _ReviewStatus = _ReviewStatus()


# -- pure: what is asked, and what an answer means ---------------------------------------------------------------------


def claims_of(token: str) -> Claims:
    """The claims in a token, unverified.

    Raises:
        BadTokenError: it is no JWT.
    """
    parts = token.split(".")
    if len(parts) != 3:
        raise BadTokenError("the token is no JWT: it has not three parts")
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        return msgspec.json.decode(payload, type=Claims)
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        raise BadTokenError("the token is no JWT: its claims cannot be read") from None


def plausible(token: str, *, audience: str, now: float) -> Claims:
    """The claims of a token that may be good.

    Raises:
        BadTokenError: it cannot be, by its own words.
    """
    claims = claims_of(token)
    if audience not in claims.audiences:
        raise BadTokenError(f"the token is for the audience {_shown(claims.audiences)}, not for {audience}")
    if not claims.exp:
        raise BadTokenError("the token never ends; only tokens that do are taken (projected ones, or TokenRequest)")
    if claims.exp <= now:
        raise BadTokenError(f"the token has ended {now - claims.exp:.0f} s ago")
    return claims


def question(token: str, audience: str) -> bytes:
    """The TokenReview to post."""
    return msgspec.json.encode(
        {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
    )


def account_in(answer: bytes, *, audience: str, expires_at: float, cluster: str = "") -> Account:
    """Whose token it is, from the TokenReview that an API server answered with.

    Raises:
        BadTokenError: it says that the token is not good, or what it says is not what we ask for.
    """
    try:
        status = msgspec.json.decode(answer, type=_Review).status
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadTokenError(f"the answer of cluster {cluster} is no TokenReview: {error}") from None
    if not status.authenticated:
        raise BadTokenError(f"cluster {cluster}: {_shown([status.error or 'not authenticated'])}")
    # An API server that does not know of audiences leaves this out, and has then not looked at them.
    if audience not in status.audiences:
        raise BadTokenError(f"cluster {cluster} takes it for the audience {_shown(status.audiences)}, not {audience}")
    match = _ACCOUNT.fullmatch(status.user.username)
    if match is None or _GROUP not in status.user.groups:
        raise BadTokenError(f"{_shown([status.user.username])} in cluster {cluster} is no service account")
    extra = status.user.extra
    return Account(
        namespace=match[1],
        name=match[2],
        expires_at=expires_at,
        pod=_only(extra.get(_POD_NAME)),
        pod_uid=_only(extra.get(_POD_UID)),
        node=_only(extra.get(_NODE_NAME)),
        cluster=cluster,
    )


def _only(values: list[str] | None) -> str:
    return values[0] if values is not None and len(values) == 1 else ""


def _shown(values: tuple[str, ...] | list[str]) -> str:
    """For the log: of what anybody may have written, not much."""
    return ", ".join(repr(value[:200]) for value in values[:5]) or "of nobody"


class Callers:
    """Addresses that showed bad tokens, each with a bucket of patience; a bounded number of them."""

    def __init__(self) -> None:
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def must_wait(self, caller: str, now: float) -> bool:
        """Whether an address has shown too many."""
        return self._level(caller, now) >= _BAD_BURST

    def bad(self, caller: str, now: float) -> None:
        """One more."""
        self._spent[caller] = (self._level(caller, now) + 1.0, now)
        self._spent.move_to_end(caller)
        if len(self._spent) > _REMEMBERED:
            self._spent.popitem(last=False)

    def _level(self, caller: str, now: float) -> float:
        level, at = self._spent.get(caller, (0.0, now))
        return max(0.0, level - (now - at) * _FORGIVEN_PER_SECOND)


# -- the shell ---------------------------------------------------------------------------------------------------------

_Key = bytes


class TokenReviews:
    """Asks the clusters that `apis` gives, by name, at the time of asking.

    `signatures` stand in for clusters that are away, None: nothing does. `clock` is the wall clock: a token's end is
    told in it.
    """

    def __init__(
        self,
        apis: Callable[[], Mapping[str, Api]],
        *,
        audience: str = AUDIENCE,
        signatures: Signatures | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._apis = apis
        self._signatures = signatures
        self._audience = audience
        self._clock = clock
        self._good: OrderedDict[_Key, tuple[Account, float]] = OrderedDict()
        self._bad: OrderedDict[_Key, tuple[str, float]] = OrderedDict()
        # What an API server has refused, by what is signed: a signature may be written in several ways.
        self._refused: OrderedDict[_Key, tuple[str, float]] = OrderedDict()
        self._said: OrderedDict[tuple[str, str], tuple[None, float]] = OrderedDict()
        self._asking: dict[_Key, asyncio.Future[Account]] = {}
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._callers = Callers()
        # Issuer → the cluster that last took one of its tokens.
        self._issuers: dict[str, str] = {}

    async def account(self, token: str, *, caller: str) -> Account:
        """Whose a token is; `caller` is the address that showed it.

        Raises:
            BadTokenError: nobody's, or not meant for us.
            NoReviewError: that cannot be told now.
        """
        now = self._clock()
        key = hashlib.sha256(token.encode()).digest()
        known = self._good.get(key)
        if known is not None and now < min(known[1] + _GOOD_SECONDS, known[0].expires_at):
            return known[0]
        if known is None and self._callers.must_wait(caller, now):
            raise NoReviewError(f"{caller} has shown too many bad tokens lately and has to wait")
        try:
            claims = plausible(token, audience=self._audience, now=now)
            self._refuse_again(key, now)
            return await self._asked(key, token, claims)
        except BadTokenError:
            self._callers.bad(caller, now)
            raise

    def _refuse_again(self, key: _Key, now: float) -> None:
        refused = self._bad.get(key)
        if refused is not None and now < refused[1] + _BAD_SECONDS:
            raise BadTokenError(refused[0])

    async def _asked(self, key: _Key, token: str, claims: Claims) -> Account:
        """One question per token at a time, whoever else waits for its answer or goes away."""
        asking = self._asking.get(key)
        if asking is None:
            if len(self._asking) >= _WAITING:
                raise NoReviewError(f"{_WAITING} tokens are waiting to be reviewed already")
            asking = asyncio.get_running_loop().create_task(self._ask(key, token, claims))
            self._asking[key] = asking
            asking.add_done_callback(lambda done: self._asked_and_answered(key, done))
        return await asyncio.shield(asking)

    def _asked_and_answered(self, key: _Key, done: asyncio.Future[Account]) -> None:
        del self._asking[key]
        if not done.cancelled():
            done.exception()  # whoever asked may have gone

    async def _ask(self, key: _Key, token: str, claims: Claims) -> Account:
        try:
            async with self._places:
                account = await self._ask_clusters(token, claims)
        except BadTokenError as error:
            self._good.pop(key, None)
            _remember(self._bad, key, (str(error), self._clock()))
            _remember(self._refused, _signed_part(token), (str(error), self._clock()))
            raise
        except NoReviewError as error:
            # Nobody to ask: what was found good stands until the token ends, or proxies that only reconnect would be
            # cut off by the API server's absence.
            known = self._good.get(key)
            if known is not None and self._clock() < known[0].expires_at:
                return known[0]
            return self._by_signature(token, error)
        _remember(self._good, key, (account, self._clock()))
        if len(self._issuers) < _REMEMBERED:
            self._issuers[claims.iss] = account.cluster
        return account

    async def _ask_clusters(self, token: str, claims: Claims) -> Account:
        apis = dict(self._apis())
        first = self._issuers.get(claims.iss, "")
        refusals: list[str] = []
        troubles: list[str] = []
        away: list[str] = []
        for cluster in sorted(apis, key=lambda name: name != first):
            try:
                answer = await apis[cluster].request(
                    "POST", PATH, body=question(token, self._audience), timeout=_TIMEOUT
                )
                return account_in(answer, audience=self._audience, expires_at=claims.exp, cluster=cluster)
            except BadTokenError as error:
                refusals.append(str(error))
            except (ApiError, UnreachableError) as error:
                troubles.append(f"cluster {cluster}: {_trouble(error)}")
                if isinstance(error, UnreachableError) or error.status >= 500:
                    away.append(cluster)
        if troubles or not apis:
            raise NoReviewError("; ".join(troubles) or "no cluster is there to review tokens", away=tuple(away))
        raise BadTokenError("; ".join(refusals))

    def _by_signature(self, token: str, why: NoReviewError) -> Account:
        """Whose a token is as far as its signature tells, where clusters that may know of it are away.

        Raises:
            BadTokenError: it is not good.
            NoReviewError: the signature tells nothing either.
        """
        if self._signatures is None or not why.away:
            raise why
        refused = self._refused.get(_signed_part(token))
        if refused is not None:
            raise BadTokenError(refused[0])
        now = self._clock()
        forged: list[str] = []
        for cluster in why.away:
            try:
                said = self._signatures.signed(cluster, token, audience=self._audience, now=now)
            except UnknownKeyError:
                continue
            except ForgedError as error:
                forged.append(f"cluster {cluster} cannot be asked, and by its keys the token is not good: {error}")
                continue
            self._tell(said, why, now)
            until = min(said.expires_at, now + HOLDS_SECONDS)
            return Account(said.namespace, said.account, until, said.pod, said.pod_uid, cluster, said.node)
        if forged:
            raise BadTokenError("; ".join(forged))
        raise why

    def _tell(self, said: Signed, why: NoReviewError, now: float) -> None:
        """Say it once a minute for each account."""
        told = self._said.get((said.namespace, said.account))
        if told is not None and now < told[1] + _SAY_EVERY:
            return
        _remember(self._said, (said.namespace, said.account), (None, now))
        _log.warning(
            "a token of account %s/%s (pod %s) is taken by its signature for %g s, for it cannot be reviewed: %s",
            *(said.namespace, said.account, said.pod, HOLDS_SECONDS, why),
        )


def _signed_part(token: str) -> _Key:
    return hashlib.sha256(token.rpartition(".")[0].encode()).digest()


def _trouble(error: ApiError | UnreachableError) -> str:
    if isinstance(error, ApiError) and error.status == 403:
        return f"{error}. Fix: let Fairlead's account create tokenreviews (authentication.k8s.io)"
    return str(error)


def _remember(where: OrderedDict[Any, Any], key: Any, what: tuple[Any, float]) -> None:
    where[key] = what
    where.move_to_end(key)
    if len(where) > _REMEMBERED:
        where.popitem(last=False)
