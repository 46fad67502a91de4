"""What is read of an agent's answers. Go writes null for what is empty; what is not read may be anything."""

from __future__ import annotations

from typing import Any

import msgspec


class UnreadableError(Exception):
    """An answer that is not what Consul's API says."""


class Weights(msgspec.Struct, frozen=True, rename="pascal", gc=False):
    """How much of the requests an instance takes."""

    passing: int = 1
    warning: int = 1


class Place(msgspec.Struct, frozen=True, rename="pascal"):
    """What newer agents say of where a node or an instance is (`Locality`); 1.15 takes none."""

    region: str = ""
    zone: str = ""


class Node(msgspec.Struct, frozen=True, rename="pascal"):
    """Where an instance runs; `tagged_addresses` are by `lan`, `wan` and such."""

    address: str = ""
    datacenter: str = ""
    meta: dict[str, str] | None = None
    tagged_addresses: dict[str, str] | None = None
    locality: Place | None = None


class Tagged(msgspec.Struct, frozen=True, rename="pascal"):
    """Another address of an instance."""

    address: str = ""
    port: int = 0


class Service(msgspec.Struct, frozen=True, rename="pascal"):
    """An instance. `kind` is empty for a service proper, else a proxy's kind; `namespace` where Consul has them."""

    service: str
    id: str = msgspec.field(default="", name="ID")
    kind: str | None = None
    tags: tuple[str, ...] | None = None
    address: str = ""
    port: int = 0
    meta: dict[str, str] | None = None
    weights: Weights | None = None
    tagged_addresses: dict[str, Tagged] | None = None
    namespace: str | None = None
    locality: Place | None = None


class Check(msgspec.Struct, frozen=True, rename="pascal"):
    """A health check; maintenance mode is one too, and critical."""

    status: str = ""


class Entry(msgspec.Struct, frozen=True, rename="pascal"):
    """An instance with its node and its checks, and those of the node."""

    node: Node
    service: Service
    checks: tuple[Check, ...] | None = None


NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a decoder raises for bytes that are no JSON of the wanted shape, or nested deeper than it can go."""
_NAMES = msgspec.json.Decoder(dict[str, tuple[str, ...] | None])
_ENTRIES = msgspec.json.Decoder(tuple[Entry, ...])
_DATACENTERS = msgspec.json.Decoder(tuple[str, ...])
_SELF = msgspec.json.Decoder(dict[str, Any])


def names(body: bytes) -> frozenset[str]:
    """The names in the catalog.

    Raises:
        UnreadableError: the body is cut off or of wrong types.
    """
    try:
        return frozenset(_NAMES.decode(body))
    except NOT_JSON as error:
        raise UnreadableError(f"the list of services cannot be read: {error}") from None


def entries(body: bytes) -> tuple[Entry, ...]:
    """The instances of a service.

    Raises:
        UnreadableError: the body is cut off or of wrong types.
    """
    try:
        return _ENTRIES.decode(body)
    except NOT_JSON as error:
        raise UnreadableError(f"the instances of a service cannot be read: {error}") from None


def datacenters(body: bytes) -> tuple[str, ...]:
    """The datacenters that an agent knows of, the nearest first.

    Raises:
        UnreadableError: the body is cut off or of wrong types.
    """
    try:
        return _DATACENTERS.decode(body)
    except NOT_JSON as error:
        raise UnreadableError(f"the list of datacenters cannot be read: {error}") from None


def own_datacenter(body: bytes) -> str:
    """The datacenter that an agent says it is in.

    Raises:
        UnreadableError: it says nothing of the kind.
    """
    try:
        config = _SELF.decode(body).get("Config")
    except NOT_JSON as error:
        raise UnreadableError(f"what the agent says of itself cannot be read: {error}") from None
    name = config.get("Datacenter") if isinstance(config, dict) else None
    if not isinstance(name, str) or not name:
        raise UnreadableError("the agent does not say in which datacenter it is")
    return name
