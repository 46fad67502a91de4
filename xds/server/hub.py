"""Who is connected, what they should have, and the moment they are told.

The one meeting point between the program and the streams: commits go in at `publish`, questions are answered from
memory, and callbacks tell of audiences that come and go, of what proxies say, of NACKs, and of proxies that take what
another refused.
Everything runs on the event loop, nothing here waits, and callbacks must not either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Protocol

from mesh.model import Audience
from mesh.tables import Commit, Engine, Table
from xds.protocol import doubts
from xds.protocol.contents import ABSENT, Contents, Entry
from xds.protocol.ordering import PATIENCE, Patience
from xds.protocol.rejections import NackReport
from xds.protocol.requests import DeltaRequest, Recent, SotwRequest, read_delta, read_sotw
from xds.protocol.stream import Heard, Stream
from xds.protocol.transitions import Transitions, Variant
from xds.protocol.typed import Typed
from xds.resources import Resource, ResourceKey, View, ViewKey
from xds.server.node_identity import Proxy
from xds.server.older import Older
from xds.server.pacing import Pacer
from xds.server.shelves import Shelves
from xds.server.states import Distribution, Progress, ProxyState, type_state
from xds.server.telemetry import Telemetry


class Member(Protocol):
    """A stream as the hub sees it."""

    proxy: Proxy
    stream: Stream
    connected_since: float

    def tell(self, round_number: int) -> bool:
        """Wake up and send what there is; False if the client is slow, so that nobody should wait for it."""

    def close(self, reason: str) -> None:
        """End gracefully, after what is being written."""


def _nobody_listens(audience: Audience, connected: bool) -> None:
    """Stand in for a callback that was not given."""


def _nobody_misses(member: Member) -> None:
    """Stand in for a callback that was not given."""


def _nobody_cares(report: NackReport) -> None:
    """Stand in for a callback that was not given."""


def _nobody_watches(audience: Audience, type_url: str) -> None:
    """Stand in for a callback that was not given."""


def _nobody_doubts(audience: Audience, type_url: str, taken: Mapping[str, str]) -> None:
    """Stand in for a callback that was not given."""


_NOT_YET: Final = "the control plane has not read all its sources yet"


class Hub:
    """The meeting point. `clock` is monotonic; event times given to `publish` are of the same clock."""

    def __init__(
        self,
        resources: Mapping[str, tuple[Table[ResourceKey, Resource], ...]],
        views: Table[ViewKey, View],
        *,
        patience: Patience = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.telemetry = Telemetry()
        self.clock = clock
        self.ready = False
        self.not_ready_because = _NOT_YET
        self.on_audience: Callable[[Audience, bool], None] = _nobody_listens
        self.on_nack: Callable[[NackReport], None] = _nobody_cares
        self.on_left: Callable[[Member], None] = _nobody_misses
        # A proxy of that audience has said something about that type, or (type "") has gone.
        self.on_heard: Callable[[Audience, str], None] = _nobody_watches
        # Versions that proxies refused, by audience and type: name → version. Whoever takes one is told of.
        self.doubted: Mapping[tuple[Audience, str], Mapping[str, str]] = {}
        self.on_taken: Callable[[Audience, str, Mapping[str, str]], None] = _nobody_doubts
        self.readers: Mapping[Variant, Recent] = {"delta": Recent(read_delta), "sotw": Recent(read_sotw)}
        self._patience = patience
        self._shelves = Shelves(resources, views)
        self._older = Older(self.telemetry)
        self._transitions = Transitions()
        self._pacer = Pacer(self._start_round, clock)
        self._members: dict[Audience, dict[Member, None]] = {}
        self._news: set[ViewKey] = set()
        self._news_since: float | None = None
        # Published and not yet taken; None before the first publication.
        self._commits: list[Commit] | None = None

    # -- from the program ---------------------------------------------------------------------------------------

    def publish(self, commit: Commit, engine: Engine, *, event_at: float | None = None) -> None:
        """Take what a commit changed and tell the proxies concerned; `event_at` is when the oldest change happened.

        To be called on the loop after every commit, in order. The first call takes all that the engine holds.
        """
        self.telemetry.publications += 1
        if self._commits is None:
            self._news |= self._shelves.load(engine)
            self._commits = []
        else:
            self._commits.append(commit)
        if self._news_since is None:
            self._news_since = event_at if event_at is not None else self.clock()
        self._pacer.request()

    def _take_commits(self) -> None:
        """Put what was published where the streams see it: between rounds they see one and the same state."""
        commits, self._commits = self._commits, [] if self._commits is not None else None
        for commit in commits or ():
            self._news |= self._shelves.publish(commit)

    def open(self) -> None:
        """Let streams in: every source has been read and the first build is published."""
        self.ready = True

    def stop(self) -> None:
        """Tell nobody anything any more."""
        self._pacer.stop()

    def _start_round(self) -> int:
        self._take_commits()
        if not self._news:
            self._news_since = None
            return 0
        self._transitions.age()
        news, self._news = self._news, set()
        since, self._news_since = self._news_since, None
        told: dict[Member, None] = {}
        for audience, type_url in news:
            for member in self._members.get(audience, ()):
                if member.stream.mark(type_url, since):
                    told[member] = None
        self.telemetry.fan_outs += 1
        self.telemetry.lag_seconds = 0.0 if since is None else max(0.0, self.clock() - since)
        number = self._pacer.round
        return sum([member.tell(number) for member in told])

    # -- from the streams ---------------------------------------------------------------------------------------

    def stream_for(self, variant: Variant, proxy: Proxy) -> Stream:
        """The state machine of a new stream."""
        audience, version = proxy.audience, proxy.version
        shelves, older = self._shelves, self._older
        if not older.concerns(version):
            return Stream(
                variant, self._transitions, lambda type_url: shelves.contents(audience, type_url), self._patience
            )

        def source(type_url: str) -> Contents | None:
            contents = shelves.contents(audience, type_url)
            return contents if contents is None else older.without_unknown(version, type_url, contents)

        return Stream(variant, self._transitions, source, self._patience)

    def join(self, member: Member) -> None:
        """A stream begins."""
        audience = member.proxy.audience
        members = self._members.setdefault(audience, {})
        members[member] = None
        self.telemetry.streams += 1
        if len(members) == 1:
            self.on_audience(audience, True)

    def leave(self, member: Member) -> None:
        """A stream has ended."""
        audience = member.proxy.audience
        members = self._members[audience]
        del members[member]
        self.telemetry.streams -= 1
        if not members:
            del self._members[audience]
            self.on_audience(audience, False)
        self.on_left(member)
        self.on_heard(audience, "")

    def heard(self, member: Member, request: DeltaRequest | SotwRequest, heard: Heard) -> None:
        """A stream took a request: does it show that the client has taken a version which is in doubt?"""
        audience = member.proxy.audience.kin
        doubted = self.doubted.get((audience, request.type_url))
        if doubted and (taken := doubts.taken(doubted, member.stream, request, heard)):
            self.on_taken(audience, request.type_url, taken)

    def done(self, round_number: int) -> None:
        """A stream that was told of a round has sent what it could."""
        self._pacer.done(round_number)

    # -- questions (about everything that is published, whether the streams were told or not) -----------------------

    def _kin(self, audience: Audience) -> Iterator[Member]:
        """The streams of an audience, on whatever node."""
        for found, members in self._members.items():
            if found.kin == audience:
                yield from members

    def members(self) -> list[Member]:
        """Every stream."""
        return [member for members in self._members.values() for member in members]

    def node_ids(self) -> set[str]:
        """The proxies that are connected."""
        return {member.proxy.node_id for members in self._members.values() for member in members}

    def audiences(self) -> list[Audience]:
        """The audiences that are connected, sorted."""
        return sorted(self._members)

    def proxies(self) -> list[ProxyState]:
        """Every connected proxy, sorted by node id; a proxy with several streams appears once for each."""
        self._take_commits()
        return sorted((self._state(member) for member in self.members()), key=lambda state: state.node_id)

    def proxy(self, node_id: str) -> ProxyState | None:
        """The proxy of that id; of several streams (one per type) the states of all types together."""
        self._take_commits()
        found = [self._state(member) for member in self.members() if member.proxy.node_id == node_id]
        if not found:
            return None
        first = min(found, key=lambda state: state.connected_since)
        types = {state.type_url: state for proxy in found for state in proxy.types}
        return ProxyState(
            first.node_id,
            first.audience,
            first.connected_since,
            first.version,
            first.protocol,
            tuple(types[type_url] for type_url in sorted(types)),
        )

    def resources(self, audience: Audience, type_url: str) -> dict[str, Entry]:
        """What an audience should have of a type, by name; empty for an audience that nobody knows."""
        self._take_commits()
        contents = self._shelves.contents(audience, type_url)
        return {} if contents is None else dict(sorted(contents.entries.items()))

    def acknowledged(self, audience: Audience, type_url: str, name: str) -> dict[str, Entry]:
        """What each proxy of an audience that subscribes to a name has acknowledged of it: node id → resource.

        The content is empty where a proxy came back with a version that the server no longer has.
        """
        found = {}
        for member in self._kin(audience):
            state = member.stream.types.get(type_url)
            entry = state.acked.get(name) if state is not None else None
            if entry is not None and entry is not ABSENT:
                found[member.proxy.node_id] = entry
        return found

    def progress(self, audience: Audience, type_url: str) -> Progress:
        """How far the proxies of an audience have come with all that they should have of a type."""
        self._take_commits()
        contents = self._shelves.contents(audience, type_url)
        wanted = contents.entries if contents is not None else {}
        current = behind = False
        for member in self._members.get(audience, ()):
            state = member.stream.types.get(type_url)
            if state is None or state.subscription is None:
                continue  # another stream of the same proxy
            have = state.acked.entries
            lacks = [name for name in wanted if name not in have or have[name].version != wanted[name].version]
            if not lacks:
                current = True
            elif any(state.rejected.get(name) != wanted[name].version for name in lacks):
                behind = behind or any(entry is not ABSENT for entry in have.values())
        return Progress(current, behind)

    def spread(self, type_url: str, name: str, version: str) -> tuple[set[str], set[str]]:
        """How far a version of a resource has come: the node ids of those that ask for it by name, and of those of them
        that have acknowledged another one. What stands in for a version that was refused is another one.
        """
        wanting, lacking = set(), set()
        for member in self.members():
            state = member.stream.types.get(type_url)
            if state is None or state.subscription is None or not state.subscription.wants(name):
                continue
            acked = state.acked.get(name)
            wanting.add(member.proxy.node_id)
            if acked is None or acked.version != version:
                lacking.add(member.proxy.node_id)
        return wanting, lacking

    def refusers(self, audience: Audience, type_url: str, name: str, version: str) -> set[str]:
        """The node ids of the connected proxies of an audience that refused a version."""
        return {
            member.proxy.node_id
            for member in self._kin(audience)
            if (state := member.stream.types.get(type_url)) is not None and state.rejected.get(name) == version
        }

    def left_out(self, member: Member, type_url: str) -> dict[str, tuple[str, ...]]:
        """What a proxy asks for and is too old for: name → paths of the fields that it does not know."""
        state = member.stream.types.get(type_url)
        contents = self._shelves.contents(member.proxy.audience, type_url)
        if contents is None or state is None or state.subscription is None:
            return {}
        found = self._older.left_out(member.proxy.version, type_url, contents)
        return {name: found[name] for name in sorted(found) if state.subscription.wants(name)}

    def distribution(self, keys: Iterable[ResourceKey], audience: Audience | None = None) -> Distribution:
        """How far the present versions of some resources have come, among the proxies that should have them.

        A resource that no longer exists concerns a proxy until it has acknowledged the removal; one that a proxy is too
        old for counts as rejected.
        """
        self._take_commits()
        acked: set[str] = set()
        pending: set[str] = set()
        rejected: set[str] = set()
        wanted_keys = list(keys)
        for member in self.members():
            if audience is not None and member.proxy.audience != audience:
                continue
            verdicts = {self._verdict(member, key) for key in wanted_keys} - {None}
            if not verdicts:
                continue
            where = rejected if "rejected" in verdicts else pending if "pending" in verdicts else acked
            where.add(member.proxy.node_id)
        return Distribution(
            tuple(sorted(acked - pending - rejected)), tuple(sorted(pending - rejected)), tuple(sorted(rejected))
        )

    def _verdict(self, member: Member, key: ResourceKey) -> str | None:
        state = member.stream.types.get(key.type_url)
        if state is None or state.subscription is None or not state.subscription.wants(key.name):
            return None
        contents = self._shelves.contents(member.proxy.audience, key.type_url)
        wanted = contents.get(key.name) if contents is not None else None
        if wanted is not None and wanted.key != key:
            return None  # another audience's resource of the same name
        acked = state.acked.get(key.name)
        if wanted is None and key.name not in state.subscription.names and not _knows(state, key):
            return None  # the proxy has nothing of it, never had, and did not ask for it by name
        have = acked.version if acked is not None else ""
        want = wanted.version if wanted is not None else ""
        if have == want:
            return "acked"
        is_rejected = want and state.rejected.get(key.name) == want
        return "rejected" if is_rejected or key.name in self.left_out(member, key.type_url) else "pending"

    def _state(self, member: Member) -> ProxyState:
        stream, proxy = member.stream, member.proxy
        return ProxyState(
            node_id=proxy.node_id,
            audience=proxy.audience,
            connected_since=member.connected_since,
            version=proxy.version,
            protocol=stream.variant,
            types=tuple(
                type_state(state, stream.wanted(state), self.left_out(member, type_url))
                for type_url, state in sorted(stream.types.items())
            ),
        )


def _knows(state: Typed, key: ResourceKey) -> bool:
    """Whether a proxy was sent the resource and has not yet acknowledged its removal."""
    found = (state.acked.get(key.name), state.held.get(key.name))
    return any(entry is not None and entry is not ABSENT and entry.key in (None, key) for entry in found)
