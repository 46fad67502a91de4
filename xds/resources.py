"""What translation hands to distribution: Envoy resources as bytes, and who gets which.

The rows of the last tables. They carry no message objects: bytes exist once, whoever receives them.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from mesh.model import Audience
from mesh.results import Results


class ResourceKey(NamedTuple):
    """A resource's place in the tables. `scope` is empty where all audiences share it, as they do clusters."""

    type_url: str
    name: str
    scope: str = ""


class Resource(msgspec.Struct, frozen=True):
    """One Envoy resource. `any` is the serialised `google.protobuf.Any`; `version` the hash of its content.

    `needs` names, for routes and listeners, the clusters that must be warm before it is sent, and what a filter's
    configuration must know before (`requirement`); `provides` are such things that this configuration of a filter does
    know. For a cluster that gets its endpoints over EDS, `eds` is the name it asks for. `results` tells what became
    of objects in it.
    """

    type_url: str
    name: str
    version: str
    any: bytes
    needs: tuple[str, ...] = ()
    eds: str = ""
    provides: tuple[str, ...] = ()
    results: Results = ()


_REQUIREMENT = "requirement:"


def requirement(name: str) -> str:
    """What is needed of, or provided by, a filter's configuration; no cluster has such a name."""
    return f"{_REQUIREMENT}{name}"


def is_requirement(need: str) -> bool:
    """Whether a need is one of a filter's configuration."""
    return need.startswith(_REQUIREMENT)


class ViewKey(NamedTuple):
    """What an audience sees of one type."""

    audience: Audience
    type_url: str


class View(msgspec.Struct, frozen=True, cache_hash=True):
    """The resources of one type for one audience, as keys into the resource tables, sorted.

    `overrides` are resources that a proxy rejected in their present version, with what stands instead (None: withheld).
    Audiences with equal views share everything that distribution makes for them.
    """

    keys: tuple[ResourceKey, ...]
    overrides: tuple[tuple[ResourceKey, Resource | None], ...] = ()
