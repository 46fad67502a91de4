"""SPIFFE identities: trust domains and IDs, which exist in their valid form or not at all.

The rules are those of the specification, SPIFFE-ID.md §2. Letter case is part of a name: Envoy compares the names in
certificates byte by byte, so `SPIFFE://Example.org/x`, a second spelling of an identity, would be a second identity. It
is refused.

Pure; knows neither certificates nor proxies.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

MAX_TRUST_DOMAIN: Final = 255
MAX_ID: Final = 2_048

_SCHEME: Final = "spiffe://"
_TRUST_DOMAIN: Final = re.compile(r"[a-z0-9._-]+")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._-]+")
_SHOWN: Final = 200


class InvalidSpiffeId(ValueError):  # noqa: N818 - errors are named by what is true
    """A text that is no SPIFFE ID, or no part of one; says what is wrong."""


class TrustDomain(msgspec.Struct, frozen=True, order=True):
    """The name of a trust domain: lower-case letters, digits, `.`, `-` and `_`, at most 255 bytes."""

    name: str

    def __post_init__(self) -> None:
        if not self.name:
            raise InvalidSpiffeId("the trust domain is missing")
        if len(self.name) > MAX_TRUST_DOMAIN:
            raise InvalidSpiffeId(
                f"the trust domain has {len(self.name)} bytes; at most {MAX_TRUST_DOMAIN} are allowed"
            )
        if not _TRUST_DOMAIN.fullmatch(self.name):
            raise InvalidSpiffeId(
                f"the trust domain is {_shown(self.name)}; it may have lower-case letters, digits, '.', '-' and '_'"
            )

    @property
    def id(self) -> SpiffeId:
        """The ID of the trust domain itself, which its authorities carry."""
        return SpiffeId(self, "")

    def __str__(self) -> str:
        return self.name


class SpiffeId(msgspec.Struct, frozen=True, order=True):
    """An identity. `path` is empty (the trust domain itself) or begins with `/`; `str()` gives the URI."""

    trust_domain: TrustDomain
    path: str

    def __post_init__(self) -> None:
        if self.path:
            _check_path(self.path)
        length = len(_SCHEME) + len(self.trust_domain.name) + len(self.path)
        if length > MAX_ID:
            raise InvalidSpiffeId(f"the SPIFFE ID has {length} bytes; at most {MAX_ID} are allowed")

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """The identity behind a URI.

        Raises:
            InvalidSpiffeId: it is none.
        """
        if len(text) > MAX_ID:
            raise InvalidSpiffeId(f"the SPIFFE ID has {len(text)} characters; at most {MAX_ID} are allowed")
        if not text.startswith(_SCHEME):
            raise InvalidSpiffeId(f"{_shown(text)} does not begin with {_SCHEME}")
        name, slash, rest = text[len(_SCHEME) :].partition("/")
        return cls(TrustDomain(name), slash + rest)

    @property
    def namespace(self) -> str | None:
        """The namespace of a workload's ID; None for an ID of another form."""
        parts = self._workload()
        return parts[0] if parts else None

    @property
    def account(self) -> str | None:
        """The service account of a workload's ID; None for an ID of another form."""
        parts = self._workload()
        return parts[1] if parts else None

    def _workload(self) -> tuple[str, str] | None:
        match self.path.split("/"):
            case ["", "ns", namespace, "sa", account]:
                return namespace, account
        return None

    def __str__(self) -> str:
        return f"{_SCHEME}{self.trust_domain.name}{self.path}"


def workload(trust_domain: TrustDomain, namespace: str, account: str) -> SpiffeId:
    """The identity of a service account: `spiffe://<trust domain>/ns/<namespace>/sa/<account>`.

    Raises:
        InvalidSpiffeId: a name that can be no segment of a path; one with a `/` would name another workload.
    """
    for what, name in (("namespace", namespace), ("service account", account)):
        if not _SEGMENT.fullmatch(name) or name in {".", ".."}:
            raise InvalidSpiffeId(f"the {what} is {_shown(name)}; it cannot be part of a SPIFFE ID")
    return SpiffeId(trust_domain, f"/ns/{namespace}/sa/{account}")


def _check_path(path: str) -> None:
    if not path.startswith("/"):
        raise InvalidSpiffeId(f"the path is {_shown(path)}; it must begin with '/'")
    for segment in path[1:].split("/"):
        if not segment:
            raise InvalidSpiffeId("the path has an empty segment, or ends with '/'")
        if segment in {".", ".."}:
            raise InvalidSpiffeId(f"the path has the segment {segment!r}")
        if not _SEGMENT.fullmatch(segment):
            raise InvalidSpiffeId(
                f"the path has the segment {_shown(segment)}; it may have letters, digits, '.', '-' and '_'"
            )


def _shown(text: str) -> str:
    return f"{text[:_SHOWN]!r}{'…' if len(text) > _SHOWN else ''}"
