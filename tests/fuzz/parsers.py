"""Coverage-guided fuzzing of what strangers can send: `python -m tests.fuzz.parsers TARGET [libFuzzer options]`.

Each target gives its parser bytes, allows the errors that it promises and nothing else, and holds what was taken
against what has to be true of it. `make fuzz` runs all of them for a bounded time; the property tests beside the unit
tests do the same with structured input in every run.
"""

from __future__ import annotations

import datetime as dt
import re
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
    from sds.outer import request_pem

TD = TrustDomain("example.org")
REVIEWS = SpiffeId(TD, "/ns/shop/sa/reviews")
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_GRAMMAR = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/(?!\.{1,2}(/|\Z))[A-Za-z0-9._-]+)*\Z")
_KEY = new_key()
_AUTHORITY = in_memory(TD, clock=lambda: NOW)


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


TARGETS: dict[str, Callable[[bytes], None]] = {
    "spiffe": spiffe, "csr": csr, "token": token, "bundle": bundle, "book": book,
}  # fmt: skip


def seeds(name: str) -> list[bytes]:
    """Valid input to begin with."""
    return {
        "spiffe": [str(REVIEWS).encode(), b"spiffe://a"],
        "csr": [request_for(_KEY, REVIEWS)],
        "token": [_AUTHORITY.issue_jwt(REVIEWS, ("orders",)).encode()],
        "bundle": [write_jwks(_AUTHORITY.bundle())],
        "book": [write_book(_AUTHORITY.book)],
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
