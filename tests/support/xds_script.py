"""A scripted client without a connection: drives one `Stream` with a clock that the test turns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tests.support.xds_client import delta_request, sotw_request
from xds.protocol.contents import EMPTY, Contents, Entry
from xds.protocol.ordering import PATIENCE, Patience
from xds.protocol.requests import read_delta, read_sotw
from xds.protocol.stream import Heard, Stream
from xds.protocol.transitions import Transitions
from xds.schema.type_urls import TYPE_CLUSTER
from xds.schema.types import DeltaDiscoveryResponse, DiscoveryResponse


def entry(name: str, version: str, *, needs: Iterable[str] = (), eds: str = "", provides: Iterable[str] = ()) -> Entry:
    """A resource whose content is its name and version, as the value of an `Any`."""
    value = f"{name}@{version}".encode()
    return Entry(
        name, version, b"\x12" + bytes((len(value),)) + value, needs=tuple(needs), eds=eds, provides=tuple(provides)
    )


class Served:
    """What there is, for any number of scripted clients. Types that were not set are empty."""

    def __init__(self) -> None:
        self.contents: dict[str, Contents | None] = {}
        self.transitions = Transitions()

    def set(self, type_url: str, versions: Mapping[str, str | Entry]) -> None:
        """State all resources of a type, name → version; clusters ask for endpoints of their own name."""
        before = self.contents.get(type_url) or EMPTY
        wanted: dict[str, Entry | None] = dict.fromkeys(before.entries)
        for name, version in versions.items():
            if isinstance(version, Entry):
                wanted[name] = version
                continue
            known = before.get(name)
            fresh = entry(name, version, eds=name if type_url == TYPE_CLUSTER else "")
            wanted[name] = known if known is not None and known.version == version else fresh
        self.contents[type_url] = before.replace(wanted)


class Script:
    """One stream: say what the client sends, look at what it gets."""

    def __init__(self, served: Served, variant: str = "delta", patience: Patience = PATIENCE) -> None:
        self.served = served
        self.variant = variant
        self.now = 1_000.0
        self.heard: list[Heard] = []
        self.stream = Stream(
            variant,  # type: ignore[arg-type]
            served.transitions,
            lambda type_url: served.contents.get(type_url, EMPTY),
            patience,
        )

    def ask(self, type_url: str, **fields: Any) -> list[Any]:
        """Send a request; what comes back at once."""
        if self.variant == "delta":
            request: Any = read_delta(delta_request(type_url, **fields).SerializeToString())
        else:
            request = read_sotw(sotw_request(type_url, **fields).SerializeToString())
        self.heard.append(self.stream.receive(request))
        return self.take()

    def ack(self, response: Any, **fields: Any) -> list[Any]:
        """Acknowledge a response; SotW clients repeat the names they want, which the test gives."""
        if self.variant == "sotw":
            fields.setdefault("version", response.version_info)
        return self.ask(response.type_url, nonce=response.nonce, **fields)

    def nack(self, response: Any, detail: str, **fields: Any) -> list[Any]:
        """Refuse a response."""
        return self.ask(response.type_url, nonce=response.nonce, error=detail, **fields)

    def news(self, *type_urls: str) -> list[Any]:
        """Tell the stream that there is news of some types (of all, if none is named)."""
        for type_url in type_urls or tuple(self.stream.types):
            self.stream.mark(type_url)
        return self.take()

    def wait(self, seconds: float) -> list[Any]:
        """Let time pass, to the deadline of the stream and no further than asked."""
        until = self.now + seconds
        got: list[Any] = []
        while (deadline := self.stream.deadline()) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            got += self.take()
        self.now = until
        return got + self.take()

    def take(self) -> list[Any]:
        """Everything that the stream has to send now."""
        kind = DeltaDiscoveryResponse if self.variant == "delta" else DiscoveryResponse
        got = []
        while (response := self.stream.next(self.now)) is not None:
            got.append(kind.FromString(response.message))
        return got


def sent(response: Any) -> dict[str, str]:
    """Name → version of the resources in a response of either kind, read from their content."""
    found = {}
    for resource in response.resources:
        content = getattr(resource, "resource", resource).value.decode()
        name, _, version = content.rpartition("@")
        found[name] = version
    return found


def removed(response: Any) -> list[str]:
    """The names that a delta response removes, sorted."""
    return sorted(response.removed_resources)
