"""Which proxies that take their roots over xDS trust the present ones: what streams tell the gate before a new root.

An agent tells the same of its Envoy (`issuance.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from fairlead.identities.root_gate import Seen
from mesh.tables import Engine
from xds.resources import ResourceKey
from xds.schema.type_urls import TYPE_SECRET
from xds.server.hub import Hub, Member
from xds.translate.names import ROOTCA
from xds.translate.root_certificates import ROOT_CERTIFICATES

_KEY = ResourceKey(TYPE_SECRET, ROOTCA)


class StreamWitness:
    """`left` is told of each proxy whose stream ends: its name, and whether it has what is published now."""

    def __init__(self, engine: Engine, hub: Hub, left: Callable[[str, bool], None]) -> None:
        self._engine = engine
        self._hub = hub
        self._left = left
        hub.on_left = self._member_left

    def seen(self) -> Seen:
        """Which proxies have not acknowledged the bundle of our trust domain that they should have."""
        holding, lacking = self._hub.spread(TYPE_SECRET, ROOTCA, self._version())
        return Seen(frozenset(lacking), frozenset(holding))

    def _version(self) -> str:
        row = self._engine.get(ROOT_CERTIFICATES, _KEY)
        return row.version if row is not None else ""

    def _member_left(self, member: Member) -> None:
        state = member.stream.types.get(TYPE_SECRET)
        if state is not None and state.subscription is not None and state.subscription.wants(ROOTCA):
            acked = state.acked.get(ROOTCA)
            self._left(member.proxy.node_id, acked is not None and acked.version == self._version())
