"""Versions in doubt: a proxy refused them, and whether the version or that proxy is to blame, others can tell.

One that acknowledges such a version, or comes back and says that it holds it, has shown that it is good. (Versions are
hashes of the content, equal on every replica and after a restart, so what a proxy says it holds is what was refused.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from xds.protocol.contents import ABSENT, Entry
from xds.protocol.frames import claim
from xds.protocol.requests import DeltaRequest, SotwRequest
from xds.protocol.stream import Heard, Stream


def taken(
    doubted: Mapping[str, str], stream: Stream, request: DeltaRequest | SotwRequest, heard: Heard
) -> dict[str, str]:
    """Which of the doubted versions, by name, a client has taken, by a request that its stream has received."""
    found: dict[str, str] = {}
    if heard.acked is not None:
        sent = heard.acked.step.sent
        found.update((name, version) for name, version in doubted.items() if sent.get(name, ABSENT).version == version)
    if isinstance(request, DeltaRequest):
        held = request.versions.entries
        found.update((name, version) for name, version in doubted.items() if claim(name, version) in held)
    elif request.version and not request.nonce:
        found.update(_said(doubted, stream, request))
    return found


def _said(doubted: Mapping[str, str], stream: Stream, request: SotwRequest) -> dict[str, str]:
    """As above, of a state-of-the-world client that comes back: it says one version, of all that it holds.

    It held either all that is in doubt, or one of it; other combinations are not tried, and will be sent to it.
    """
    state = stream.types[request.type_url]
    wanted, subscription = stream.wanted(state), state.subscription
    if wanted is None or subscription is None:
        return {}
    for some in _combinations({name: version for name, version in doubted.items() if subscription.wants(name)}):
        if wanted.replace({name: Entry(name, version) for name, version in some.items()}).version == request.version:
            return some
    return {}


def _combinations(doubted: Mapping[str, str]) -> Iterator[dict[str, str]]:
    if doubted:
        yield dict(doubted)
    if len(doubted) > 1:
        for name, version in doubted.items():
            yield {name: version}
