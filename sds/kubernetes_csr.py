"""A signer in Kubernetes as the authority: each request becomes a CertificateSigningRequest, approved by us.

Who may have the identity was decided before; so the object is approved at once, which needs the right to `approve` for
the signer. The signer takes its names from the request. The object is removed when it has served.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import datetime as dt
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from mesh.spiffe import SpiffeId, TrustDomain
from sds.authority import AuthorityUnavailable, Issued, RefusedIssue
from sds.lifetimes import Lifetimes, check_identity
from sds.outer import OuterAuthority, answered, check_names, read_roots, request_pem

PATH: Final = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
# What the API server allows: https://kubernetes.io/docs/reference/kubernetes-api/ (expirationSeconds).
SHORTEST: Final = dt.timedelta(minutes=10)
_WAIT_SECONDS: Final = 30.0
_CONFLICT: Final = 409
_APPROVALS: Final = 10
_APPROVAL: Final = {
    "type": "Approved",
    "status": "True",
    "reason": "FairleadAuthenticated",
    "message": "Fairlead has seen who asks, and that they may have this identity",
}
_PAUSES: Final = (0.05, 0.1, 0.2, 0.4, 0.8)
_LOOK_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


class Api(Protocol):
    """What is needed of a cluster's API server (`discovery.kubernetes.api.Api` has it)."""

    def request(self, method: Any, path: str, *, body: bytes | None = None) -> Awaitable[bytes]:
        """Ask, and return the body of the answer."""
        ...


class _Condition(msgspec.Struct, frozen=True):
    type: str
    message: str = ""


class _Metadata(msgspec.Struct, frozen=True):
    name: str


class _Status(msgspec.Struct, frozen=True):
    certificate: str = ""
    conditions: tuple[_Condition, ...] = ()


class _Request(msgspec.Struct, frozen=True):
    metadata: _Metadata
    status: _Status = _Status()


class KubernetesAuthority(OuterAuthority):
    """See `sds.authority.Authority`. `roots` is a PEM file with what the signer's certificates lead to."""

    def __init__(
        self,
        trust_domain: TrustDomain,
        api: Callable[[], Api],
        signer: str,
        roots: Path,
        *,
        failures: tuple[type[Exception], ...],
        lifetimes: Lifetimes,
        clock: Callable[[], dt.datetime],
    ) -> None:
        super().__init__(trust_domain, clock)
        self._api, self._signer, self._roots = api, signer, roots
        self._failures, self._lifetimes = failures, lifetimes

    def _pause(self) -> float:
        return _LOOK_SECONDS

    async def _look(self) -> None:
        """Read the file with the roots."""
        try:
            roots = read_roots(await asyncio.to_thread(self._roots.read_bytes), self._trust_domain)
        except (OSError, ValueError) as error:
            raise AuthorityUnavailable(f"{self._roots}: {error}") from None
        self._trust(roots)

    async def issue(
        self,
        public_key: Any,
        identity: SpiffeId,
        *,
        lifetime: dt.timedelta | None = None,
        dns_names: tuple[str, ...] = (),
        request: bytes | None = None,
    ) -> Issued:
        """See `Authority.issue`."""
        check_identity(identity, self._trust_domain)
        granted = max(self._lifetimes.granted(lifetime), SHORTEST)
        pem = request_pem(request, public_key, identity, names_needed=True, dns_names=dns_names)
        name = ""
        try:
            name = await self._make(pem, granted)
            await self._approve(name)
            chain = await self._signed(name)
        except self._failures as error:
            raise AuthorityUnavailable(f"the cluster cannot be asked to sign: {error}") from None
        finally:
            if name:
                await self._remove(name)
        found = answered(chain, public_key, identity, self.bundle().roots, now=self._clock(), longest=granted)
        check_names(found.chain, dns_names)
        self.issued += 1
        return found

    async def _make(self, pem: bytes, life: dt.timedelta) -> str:
        made = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"generateName": "fairlead-", "labels": {"app.kubernetes.io/managed-by": "fairlead"}},
            "spec": {
                "request": base64.b64encode(pem).decode(),
                "signerName": self._signer,
                "expirationSeconds": int(life.total_seconds()),
                "usages": ["digital signature", "server auth", "client auth"],
            },
        }
        return _read(await self._api().request("POST", PATH, body=msgspec.json.encode(made))).metadata.name

    async def _approve(self, name: str) -> None:
        """As what it is now: others write to it as well, and who is late is told so and looks again."""
        for _ in range(_APPROVALS):
            present = msgspec.json.decode(await self._api().request("GET", f"{PATH}/{name}"))
            conditions = present.setdefault("status", {}).setdefault("conditions", [])
            if any(one.get("type") == "Approved" for one in conditions):
                return
            conditions.append(_APPROVAL)
            try:
                await self._api().request("PUT", f"{PATH}/{name}/approval", body=msgspec.json.encode(present))
            except self._failures as error:
                if getattr(error, "status", 0) != _CONFLICT:
                    raise
            else:
                return
        raise AuthorityUnavailable(f"certificatesigningrequest {name} is written to faster than it can be approved")

    async def _signed(self, name: str) -> bytes:
        deadline = asyncio.get_running_loop().time() + _WAIT_SECONDS
        pauses = iter(_PAUSES)
        while asyncio.get_running_loop().time() < deadline:
            found = _read(await self._api().request("GET", f"{PATH}/{name}")).status
            for condition in found.conditions:
                if condition.type in {"Denied", "Failed"}:
                    raise RefusedIssue(f"the signer {self._signer} refused: {condition.message[:300]}")
            if found.certificate:
                try:
                    return base64.b64decode(found.certificate, validate=True)
                except binascii.Error:
                    raise AuthorityUnavailable(f"the signer {self._signer} answered no certificate") from None
            await asyncio.sleep(next(pauses, _PAUSES[-1]))
        raise AuthorityUnavailable(f"the signer {self._signer} did not answer within {_WAIT_SECONDS:g} s")

    async def _remove(self, name: str) -> None:
        try:
            await self._api().request("DELETE", f"{PATH}/{name}")
        except self._failures as error:
            _log.warning("certificatesigningrequest %s stays behind: %s", name, error)


def _read(answer: bytes) -> _Request:
    try:
        return msgspec.json.decode(answer, type=_Request)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise AuthorityUnavailable("the cluster's answer is no CertificateSigningRequest") from None
