"""What is read of an agent's answers. Go writes null for what is empty; what is not read may be anything."""

from __future__ import annotations

import msgspec


class UnreadableError(Exception):
    """An answer that is not what Consul's API says."""


class Weights(msgspec.Struct, frozen=True, rename="pascal", gc=False):
    """How much of the requests an instance takes."""

    passing: int = 1
    warning: int = 1


class Node(msgspec.Struct, frozen=True, rename="pascal"):
    """Where an instance runs."""

    address: str = ""
    datacenter: str = ""
    meta: dict[str, str] | None = None


class Service(msgspec.Struct, frozen=True, rename="pascal"):
    """An instance. `kind` is empty for a service proper, else the kind of a proxy."""

    service: str
    id: str = msgspec.field(default="", name="ID")
    kind: str | None = None
    tags: tuple[str, ...] | None = None
    address: str = ""
    port: int = 0
    meta: dict[str, str] | None = None
    weights: Weights | None = None


class Check(msgspec.Struct, frozen=True, rename="pascal"):
    """A health check; maintenance mode is one too, and critical."""

    status: str = ""


class Entry(msgspec.Struct, frozen=True, rename="pascal"):
    """An instance with its node and its checks, and those of the node."""

    node: Node
    service: Service
    checks: tuple[Check, ...] | None = None


_NAMES = msgspec.json.Decoder(dict[str, tuple[str, ...] | None])
_ENTRIES = msgspec.json.Decoder(tuple[Entry, ...])


def names(body: bytes) -> frozenset[str]:
    """The names in the catalog.

    Raises:
        UnreadableError: the body is cut off or of wrong types.
    """
    try:
        return frozenset(_NAMES.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableError(f"the list of services cannot be read: {error}") from None


def entries(body: bytes) -> tuple[Entry, ...]:
    """The instances of a service.

    Raises:
        UnreadableError: the body is cut off or of wrong types.
    """
    try:
        return _ENTRIES.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableError(f"the instances of a service cannot be read: {error}") from None
