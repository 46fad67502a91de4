"""What the server can tell of its proxies, as values: for people and for distribution state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mesh.model import Audience
from xds.protocol.contents import ABSENT, Contents
from xds.protocol.typed import Typed

Status = Literal["SYNCED", "STALE", "ERROR", "NOT_SENT"]


@dataclass(frozen=True, slots=True)
class TypeState:
    """One type at one proxy.

    `STALE`: something was sent and not answered, or waits to be sent; `ERROR`: the proxy refused something it should
    have now, in the words of `detail`; `NOT_SENT`: it asked and there is nothing to answer with. `sent`, `acked` and
    `wanted` are versions over all resources of the type, `rejected` maps names to the versions refused. `left_out` are
    resources that the proxy is too old for and is not sent: name → paths of the fields that it does not know.
    """

    type_url: str
    status: Status
    sent: str
    acked: str
    wanted: str
    resources: int
    nonce: str
    rejected: Mapping[str, str]
    detail: str
    responses: int
    acks: int
    nacks: int
    left_out: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class ProxyState:
    """One connected proxy. `connected_since` is in seconds since the epoch; `version` is Envoy's, as it says itself.

    `lacks` are the extensions that it was built without and configuration of ours can need, sorted.
    """

    node_id: str
    audience: Audience
    connected_since: float
    version: str
    protocol: str
    types: tuple[TypeState, ...]
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an audience has come with a type: whether a proxy has all of it, whether one has but an earlier state.

    A proxy that has acknowledged nothing yet is neither: it has only begun. Nor is one that lacks just what it refused:
    others show whether that is its own trouble.
    """

    current: bool
    behind: bool


@dataclass(frozen=True, slots=True)
class Distribution:
    """How far resources have come: node ids of the proxies that should have them, by what they made of them."""

    acked: tuple[str, ...]
    pending: tuple[str, ...]
    rejected: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every proxy concerned has acknowledged."""
        return not self.pending and not self.rejected


def too_old(version: str, fields: Sequence[str]) -> str:
    """Why a resource is not sent to an Envoy of this version."""
    return f"not sent: Envoy {version} does not know {', '.join(fields)}"


def type_state(state: Typed, wanted: Contents | None, left_out: Mapping[str, tuple[str, ...]]) -> TypeState:
    """The state of one type of a stream; `wanted` is what the client should hold, `left_out` what it is too old for."""
    rejected = {
        name: version
        for name, version in sorted(state.rejected.items())
        if wanted is not None and (entry := wanted.get(name)) is not None and entry.version == version
    }
    held = state.held
    return TypeState(
        type_url=state.type_url,
        status=_status(state, wanted, bool(rejected)),
        sent=held.version,
        acked=state.acked.version,
        wanted=wanted.version if wanted is not None else "",
        resources=sum(entry is not ABSENT for entry in held.entries.values()),
        nonce=state.last_nonce,
        rejected=rejected,
        detail=state.detail if rejected else "",
        responses=state.responses,
        acks=state.acks,
        nacks=state.nacks,
        left_out=left_out,
    )


def _status(state: Typed, wanted: Contents | None, rejected: bool) -> Status:
    if rejected:
        return "ERROR"
    if not state.responses and not len(state.held):
        return "NOT_SENT"
    if state.in_flight or wanted is None or state.held.version != wanted.version:
        return "STALE"
    return "SYNCED"
