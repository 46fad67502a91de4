"""JWT-SVIDs (JWT-SVID.md): signing them with our key, and judging those that others show. Pure.

Judging is strict where JOSE is loose: the algorithm has to be one of the specification's and fit the key that the `kid`
names in the bundle of the *subject's* trust domain; whatever else the header offers (`jku`, `jwk`, `x5c`, `crit`) is
not looked at but refused. Sizes are bounded before anything is decoded.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from mesh.spiffe import InvalidSpiffeId, SpiffeId, TrustDomain
from sds import jws
from sds.authority import RefusedIssue
from sds.bundle import TrustBundle
from sds.keys import SigningKey

DEFAULT_LIFE: Final = dt.timedelta(minutes=5)
LONGEST_LIFE: Final = dt.timedelta(hours=1)
LEEWAY: Final = dt.timedelta(seconds=60)
MAX_BYTES: Final = 16_384
MAX_AUDIENCES: Final = 10
MAX_AUDIENCE_BYTES: Final = 4_096


class InvalidToken(ValueError):  # noqa: N818 - errors are named by what is true
    """A token that proves nothing; the text says why, for a log and not for whoever showed it."""


class JwtSvid(msgspec.Struct, frozen=True):
    """What a valid token says."""

    identity: SpiffeId
    audiences: tuple[str, ...]
    expires_at: dt.datetime
    claims: Mapping[str, Any]


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    alg: str
    kid: str
    typ: str = "JWT"


class _Claims(msgspec.Struct):
    sub: str
    aud: str | tuple[str, ...]
    exp: int | float
    nbf: int | float = 0
    iat: int | float = 0


def sign(
    key: SigningKey, kid: str, identity: SpiffeId, audiences: Sequence[str], *, now: dt.datetime, lifetime: dt.timedelta
) -> str:
    """A token that says who its holder is, to some audiences.

    Raises:
        RefusedIssue: no audience or too many, or a life that is too long.
    """
    if not identity.path:
        raise RefusedIssue(f"{identity} is an authority's identity, not a workload's")
    if not audiences or not all(audiences) or len(audiences) > MAX_AUDIENCES:
        raise RefusedIssue(f"a JWT-SVID is for 1 to {MAX_AUDIENCES} audiences, each with a name")
    if sum(len(one.encode()) for one in audiences) > MAX_AUDIENCE_BYTES:
        raise RefusedIssue(f"the audiences have more than {MAX_AUDIENCE_BYTES} bytes together: nobody would read that")
    if not dt.timedelta() < lifetime <= LONGEST_LIFE:
        raise RefusedIssue(f"a life of {lifetime} is asked for; at most {LONGEST_LIFE} is granted")
    if not isinstance(key.key, ec.EllipticCurvePrivateKey):
        raise RefusedIssue("JWT-SVIDs are signed with an elliptic curve's key")
    algorithm = next(name for name, curve in jws.CURVE_OF.items() if curve == key.key.curve.name)
    begin = int(now.timestamp())
    claims = {
        "sub": str(identity),
        "aud": list(audiences),
        "iat": begin,
        "exp": begin + int(lifetime.total_seconds()),
    }
    header = {"alg": algorithm, "kid": kid, "typ": "JWT"}
    signed = f"{jws.encoded(msgspec.json.encode(header))}.{jws.encoded(msgspec.json.encode(claims))}"
    return f"{signed}.{jws.encoded(jws.sign(key.key, algorithm, signed.encode()))}"


def validate(token: str, bundles: Mapping[TrustDomain, TrustBundle], *, audience: str, now: dt.datetime) -> JwtSvid:
    """What a token says, if it is valid for an audience at a time.

    Raises:
        InvalidToken: it is not.
    """
    if len(token) > MAX_BYTES:
        raise InvalidToken(f"it has more than {MAX_BYTES} characters")
    parts = token.split(".")
    if len(parts) != 3:
        raise InvalidToken("it has not three parts")
    try:
        header = msgspec.json.decode(jws.decoded(parts[0]), type=_Header)
        signature = jws.decoded(parts[2])
        body = jws.decoded(parts[1])
        claims = msgspec.json.decode(body, type=_Claims)
        everything = msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise InvalidToken(f"it cannot be read: {str(error)[:200]}") from None
    if header.typ not in {"JWT", "JOSE"}:
        raise InvalidToken(f"its typ is {header.typ[:40]!r}")
    try:
        identity = SpiffeId.parse(claims.sub)
    except InvalidSpiffeId as error:
        raise InvalidToken(f"its subject is no SPIFFE ID: {error}") from None
    if not identity.path:
        raise InvalidToken("its subject is an authority")
    bundle = bundles.get(identity.trust_domain)
    if bundle is None:
        raise InvalidToken(f"its trust domain {identity.trust_domain} is not known")
    pem = next((key.pem for key in bundle.jwt_keys if key.kid == header.kid), None)
    if pem is None:
        raise InvalidToken(f"its key {header.kid[:100]!r} is none of {identity.trust_domain}")
    try:
        jws.verify(header.alg, load_pem_public_key(pem), f"{parts[0]}.{parts[1]}".encode(), signature)
    except jws.BadSignature as error:
        raise InvalidToken(str(error)) from None
    return _judged(identity, claims, everything, audience=audience, now=now)


def _judged(
    identity: SpiffeId, claims: _Claims, everything: Mapping[str, Any], *, audience: str, now: dt.datetime
) -> JwtSvid:
    audiences = (claims.aud,) if isinstance(claims.aud, str) else claims.aud
    if not audience or audience not in audiences:
        raise InvalidToken(f"it is not for {audience!r}")
    seconds, leeway = now.timestamp(), LEEWAY.total_seconds()
    if not seconds < claims.exp + leeway:  # NaN is no time either
        raise InvalidToken("it has ended")
    if not (claims.nbf <= seconds + leeway and claims.iat <= seconds + leeway):
        raise InvalidToken("it has not begun yet")
    try:
        end = dt.datetime.fromtimestamp(claims.exp, dt.UTC)
    except (ValueError, OverflowError, OSError):
        raise InvalidToken("its end is no time") from None
    return JwtSvid(identity, audiences, end, everything)
