"""Who may get which certificate: the caller's own identity, whatever its request says. Pure, apart from the limiter.

A request for a certificate gives its public key and nothing else. One that asks for other names than the caller's, or
for any extension beside them, is refused and not trimmed: whoever made it means something that will not happen
(as istio-csr does; Istio itself ignores what a request says).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from mesh.spiffe import SpiffeId
from sds.keys import UnusableKey, check_public_key
from sds.lint import MALFORMED

MAX_REQUEST: Final = 16_384
_BURST: Final = 10.0
_PER_SECOND: Final = 1.0
_REMEMBERED: Final = 20_000


class RefusedRequest(ValueError):  # noqa: N818 - errors are named by what is true
    """A request that is granted to nobody; the text is for the log."""


def public_key_of(request: bytes, identity: SpiffeId) -> Any:
    """The public key of a certificate request (PKCS #10, DER) of a caller with that identity.

    Raises:
        RefusedRequest: it is malformed, not signed with its own key, weak, or asks for more than the identity.
    """
    if len(request) > MAX_REQUEST:
        raise RefusedRequest(f"the request has {len(request)} bytes; at most {MAX_REQUEST} are taken")
    try:
        asked = x509.load_der_x509_csr(request)
        public = asked.public_key()
        check_public_key(public)  # first: a signature by RSA of 8,192 bits takes 3 ms to look at, a larger one more
        names, valid = _names(asked), asked.is_signature_valid
    except UnusableKey as error:
        raise RefusedRequest(f"the request's key cannot be certified: {error}") from None
    except RefusedRequest:
        raise
    except MALFORMED:
        raise RefusedRequest("it is no certificate request") from None
    if not valid:
        raise RefusedRequest("the request is not signed with its own key")
    if list(asked.subject):
        raise RefusedRequest("the request asks for a subject; an identity stands in the URI alone")
    if names not in ([], [str(identity)]):
        raise RefusedRequest(f"the request asks for {', '.join(names)[:300]}, and its caller is {identity}")
    return public


def _names(asked: x509.CertificateSigningRequest) -> list[str]:
    """The URIs that a request asks for; anything else that it asks for is refused."""
    found: list[str] = []
    for extension in asked.extensions:
        if extension.oid != ExtensionOID.SUBJECT_ALTERNATIVE_NAME:
            raise RefusedRequest(f"the request asks for the extension {extension.oid.dotted_string}")
        for name in extension.value:
            if not isinstance(name, x509.UniformResourceIdentifier):
                raise RefusedRequest(f"the request asks for a {type(name).__name__}, and identities are URIs")
            found.append(name.value)
    return found


class Limiter:
    """How often a caller may ask: a burst of ten, then once a second, of a bounded number of callers."""

    def __init__(self, *, burst: float = _BURST, per_second: float = _PER_SECOND) -> None:
        self._burst = burst
        self._per_second = per_second
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allow(self, caller: str, now: float) -> bool:
        """Whether the caller may ask now; counts it if so. `now` is monotonic, in seconds."""
        level, at = self._spent.get(caller, (0.0, now))
        level = max(0.0, level - (now - at) * self._per_second)
        allowed = level + 1.0 <= self._burst
        self._spent[caller] = (level + 1.0 if allowed else level, now)
        self._spent.move_to_end(caller)
        if len(self._spent) > _REMEMBERED:
            self._spent.popitem(last=False)
        return allowed
