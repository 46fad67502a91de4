"""Coverage-guided fuzzing of what strangers can send: `python -m tests.fuzz.parsers TARGET [libFuzzer options]`.

Each target gives its parser bytes, allows the errors that it promises and nothing else, and holds what was taken
against what has to be true of it. `make fuzz` runs all of them for a bounded time; the property tests beside the unit
tests do the same with structured input in every run.
"""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import re
import ssl
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

atheris.enabled_hooks.add("str")

with atheris.instrument_imports(include=["mesh.spiffe", "sds"]):
    from mesh.spiffe import InvalidSpiffeId, SpiffeId, TrustDomain
    from sds.authority import RefusedIssue
    from sds.builtin import in_memory
    from sds.bundle import InvalidBundle, read_jwks, write_jwks
    from sds.jwt_svid import InvalidToken, validate
    from sds.keepers import UnreadableBook, read_book, write_book
    from sds.keys import new_key, request_for
    from sds.oidc import InvalidOidcToken, UnusableIssuers, issuer_named, judge, read_issuers
    from sds.outer import request_pem
    from sds.tls import server_context
    from sds.workload_api import UnusableSvid, read_svid
    from xds.schema import message

TD = TrustDomain("example.org")
REVIEWS = SpiffeId(TD, "/ns/shop/sa/reviews")
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_GRAMMAR = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/(?!\.{1,2}(/|\Z))[A-Za-z0-9._-]+)*\Z")
_KEY = new_key()
_AUTHORITY = in_memory(TD, clock=lambda: NOW)
# The key is an example of RFC 7515, A.3.
_ISSUERS = (
    b'{"issuers": [{"issuer": "https://ci.example", "audience": "fairlead", "subjects": {"a": "shop/reviews"}, "jwks":'
    b' {"keys": [{"kty": "EC", "kid": "e", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",'
    b' "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}}]}'
)


def spiffe(data: bytes) -> None:
    """A SPIFFE ID: taken if and only if the grammar allows it."""
    text = data.decode("utf-8", "surrogateescape")
    allowed = bool(_GRAMMAR.match(text)) and len(text) <= 2_048
    try:
        found = SpiffeId.parse(text)
    except InvalidSpiffeId:
        assert not allowed, text
    else:
        assert allowed, text
        assert str(found) == text


def csr(data: bytes) -> None:
    """A certificate request: whatever is taken is signed with the key and asks for the identity alone."""
    with suppress(RefusedIssue):
        assert request_pem(data, _KEY.public_key, REVIEWS, names_needed=True)
        assert REVIEWS.path.encode() in data


def token(data: bytes) -> None:
    """A JWT-SVID: nothing that was made up is valid."""
    with suppress(InvalidToken):
        found = validate(data.decode("latin-1"), {TD: _AUTHORITY.bundle()}, audience="orders", now=NOW)
        assert found.identity == REVIEWS


def bundle(data: bytes) -> None:
    """A trust bundle: what is taken can be written, and reads back the same."""
    with suppress(InvalidBundle):
        found = read_jwks(data, TD)
        assert read_jwks(write_jwks(found), TD) == found


def book(data: bytes) -> None:
    """A kept book of authorities: damage is an error of its own kind."""
    with suppress(UnreadableBook):
        read_book(data, "here", TD)


def oidc(data: bytes) -> None:
    """A list of OIDC issuers, and a token: no bytes are a token of an issuer whose key nobody has used."""
    with suppress(UnusableIssuers):
        read_issuers(data)
    text = data.decode("latin-1")
    issuer_named(text)
    with suppress(InvalidOidcToken):
        raise AssertionError(judge(text, read_issuers(_ISSUERS), now=NOW.timestamp()))


def svid(data: bytes) -> None:
    """An answer of the Workload API: what is taken is ours, with the key of its certificate."""
    with suppress(UnusableSvid):
        found = read_svid(data, TD)
        assert found.identity.trust_domain == TD
        server_context(found.pair)


def _answer() -> bytes:
    issued = asyncio.run(_AUTHORITY.issue(_KEY.public_key, REVIEWS))
    made = message("fairlead.workload.v1.X509SvidResponse")()
    one = made.svids.add(spiffe_id=str(REVIEWS))
    one.x509_svid = ssl.PEM_cert_to_DER_cert(issued.chain.decode().split("-----END")[0] + "-----END CERTIFICATE-----\n")
    one.x509_svid_key = base64.b64decode("".join(_KEY.pem().pem.decode().splitlines()[1:-1]))
    one.bundle = ssl.PEM_cert_to_DER_cert(_AUTHORITY.bundle().roots[0].decode())
    encoded: bytes = made.SerializeToString()
    return encoded


TARGETS: dict[str, Callable[[bytes], None]] = {
    "spiffe": spiffe, "csr": csr, "token": token, "bundle": bundle, "book": book,
    "oidc": oidc, "svid": svid,
}  # fmt: skip


def seeds(name: str) -> list[bytes]:
    """Valid input to begin with."""
    return {
        "spiffe": [str(REVIEWS).encode(), b"spiffe://a"],
        "csr": [request_for(_KEY, REVIEWS)],
        "token": [_AUTHORITY.issue_jwt(REVIEWS, ("orders",)).encode()],
        "bundle": [write_jwks(_AUTHORITY.bundle())],
        "book": [write_book(_AUTHORITY.book)],
        "svid": [_answer()],
        "oidc": [_ISSUERS, _AUTHORITY.issue_jwt(REVIEWS, ("orders",)).encode()],
    }[name]


def main() -> None:
    """Run one target."""
    name, *options = sys.argv[1:]
    target = TARGETS[name]
    with tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-") as corpus:
        for number, one in enumerate(seeds(name)):
            target(one)
            (Path(corpus) / str(number)).write_bytes(one)
        atheris.Setup([sys.argv[0], corpus, "-max_len=4096", "-rss_limit_mb=2048", *options], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
