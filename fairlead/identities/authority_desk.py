"""The authority as the API shows and moves it (`api.ports.CertificateAuthority`): a window on `authority.py`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from api.ports import NotFound, Refused, Unavailable
from fairlead.identities.authority import Identities
from mesh.spiffe import workload
from sds import rotation
from sds.builtin import BuiltinAuthority
from sds.bundle import write_jwks
from sds.expiry import warnings
from sds.jwt_authority import JwtAuthority
from sds.keepers import BookUnavailable, UnreadableBook
from sds.rotation import Gate, RefusedStep, Slot


class AuthorityDesk:
    """See the module."""

    def __init__(self, identities: Identities) -> None:
        self._identities = identities

    async def join_token(self, namespace: str, account: str, ttl: float) -> Mapping[str, Any]:
        """See `CertificateAuthority.join_token`."""
        authority = self._identities.authority
        if authority is None:
            raise NotFound("This server has no authority. Start it with --ca.")
        try:
            identity = workload(authority.bundle().trust_domain, namespace, account)
            with _told():
                token = await self._identities.join_tokens.create(identity, ttl)
        except ValueError as error:
            raise Refused(str(error)) from None
        return {"token": token, "spiffeId": str(identity), "ttlSeconds": ttl}

    def status(self) -> Mapping[str, Any]:
        """See `CertificateAuthority.status`."""
        now = self._identities.now()
        builtin = self._identities.builtin
        authority = self._identities.authority
        if authority is None:
            raise NotFound("This server has no authority. Start it with --ca.")
        bundle = authority.bundle()
        shown: dict[str, Any] = {
            "trustDomain": bundle.trust_domain.name,
            "sequence": bundle.sequence,
            "warnings": [str(one) for one in warnings(self._identities.endings(), now)],
        }
        if (keys := self._identities.jwt_keys.authority) is not None:
            shown["jwtAuthorities"] = [slot_wire(slot, now) for slot in keys.book.slots]
            if keys.book.prepared is not None:
                shown["jwtGate"] = gate_wire(self._identities.jwt_keys.look(), free=False)
        if builtin is None:
            return shown | {"authorities": [], "kept": "outside"}
        shown |= {"authorities": [slot_wire(slot, now) for slot in builtin.book.slots], "kept": "here"}
        if (prepared := builtin.book.prepared) is not None:
            shown["gate"] = gate_wire(self._identities.look(), free=rotation.same_root(builtin.book, prepared))
        return shown

    def bundle(self) -> bytes:
        """See `CertificateAuthority.bundle`."""
        if self._identities.authority is None:
            raise NotFound("This server has no authority. Start it with --ca.")
        return write_jwks(self._identities.authority.bundle())

    def compare(self) -> Sequence[Mapping[str, Any]]:
        """See `CertificateAuthority.compare`."""
        seen = self._identities.gate.seen()
        return [
            {"node": node, "trusts": "an older bundle, or none" if node in seen.lacking else "the present bundle"}
            for node in sorted(seen.holding)
        ]

    def federation(self) -> Sequence[Mapping[str, Any]]:
        """See `CertificateAuthority.federation`."""
        return self._identities.federation.status()

    async def refresh(self, trust_domain: str) -> Mapping[str, Any]:
        """See `CertificateAuthority.refresh`."""
        return await self._identities.federation.refresh(trust_domain)

    async def request(self) -> str:
        """See `CertificateAuthority.request`."""
        with _told():
            return (await self._builtin().request()).decode()

    async def prepare(self, chain: str) -> Mapping[str, Any]:
        """See `CertificateAuthority.prepare`."""
        keys = self._identities.jwt_keys.authority
        if keys is not None and not chain:  # only these are ours to make then
            return await self._step(keys.prepare)
        return await self._step(lambda: self._builtin().prepare(chain.encode() or None))

    async def activate(self, name: str, *, override: bool, by: str) -> Mapping[str, Any]:  # noqa: ARG002 - on record
        """See `CertificateAuthority.activate`."""
        keys, authority = self._identities.jwt_keys, self._whose(name)
        look = keys.look if authority is keys.authority else self._identities.look
        return await self._step(lambda: authority.activate(name, look(), override=override))

    async def taint(self, name: str, *, by: str) -> Mapping[str, Any]:  # noqa: ARG002 - on record
        """See `CertificateAuthority.taint`."""
        return await self._step(lambda: self._whose(name).taint(name))

    async def revoke(self, name: str, *, override: bool, by: str) -> Mapping[str, Any]:  # noqa: ARG002 - on record
        """See `CertificateAuthority.revoke`."""
        return await self._step(lambda: self._whose(name).revoke(name, override=override))

    def _builtin(self) -> BuiltinAuthority:
        found = self._identities.builtin
        if found is None:
            raise NotFound("The keys of the authority are not here: it is not built in, or there is none (--ca).")
        return found

    def _whose(self, name: str) -> JwtAuthority:
        """In whose book an authority is that an operator names."""
        keys, builtin = self._identities.jwt_keys.authority, self._identities.builtin
        if keys is None:
            return self._builtin()
        if builtin is None:
            return keys
        found = [one for one in (keys, builtin) if any(slot.id.startswith(name) for slot in one.book.slots)]
        if len(found) > 1:
            raise Refused(f"A key for JWT-SVIDs and an authority begin with {name!r}. Fix: more of its fingerprint")
        return found[0] if found else builtin

    async def _step(self, taking: Callable[[], Awaitable[Slot]]) -> Mapping[str, Any]:
        with _told():
            await self._identities.hear()
            await self._identities.jwt_keys.hear()
            slot = await taking()
        self._identities.ring()
        return slot_wire(slot, self._identities.now())


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except RefusedStep as error:
        raise Refused(str(error)) from None
    except (BookUnavailable, UnreadableBook) as error:
        raise Unavailable(str(error), fix="See the server's log; nothing was changed") from None


def slot_wire(slot: Slot, now: dt.datetime) -> dict[str, Any]:
    """An authority for the wire: no key, sealed or not."""
    times = {
        "madeAt": slot.made_at,
        "changedAt": slot.changed_at,
        "endsAt": slot.ends_at,
        "askedAt": slot.asked_at,
        "livingUntil": slot.living_until(now),
    }
    shown = {name: at.isoformat(timespec="seconds") for name, at in times.items() if at is not None}
    return {"id": slot.id, "state": slot.state, "root": slot.root, "selfSigned": slot.self_signed, **shown}


def gate_wire(gate: Gate, *, free: bool) -> dict[str, Any]:
    """What a prepared authority waits for."""
    is_open = free or gate.open
    return {
        "open": is_open,
        "waiting": [] if free else list(gate.waiting),
        "why": "" if is_open else rotation.waits_for(gate),
    }
