"""What goes wrong between us and Consul, as the few problems that people can act on. Pure.

A thousand queries that fail for one reason are one problem, which counts them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from discovery.consul.http import ConsulError, UnreachableError
from discovery.consul.wire import UnreadableError
from mesh.problems import Level, Problem

Code = Literal[
    "Unreachable", "Forbidden", "RateLimited", "NoLeader", "NoPath", "NotEnterprise", "Failed", "Unreadable", "TooOld"
]

Failure = ConsulError | UnreachableError | UnreadableError

_TOO_MANY = 429
_SERVERS_FAIL = 500
_NO_SERVER = ("error while dialing", "error getting client", "failed to get conn")
_FIXES: dict[Code, str] = {
    "Unreachable": "see that the agent runs and that its address and files are right; what was last seen stands",
    "Forbidden": "give a token with `service:read` and `node:read` on what is to be found; what was last seen stands",
    "RateLimited": "raise the agent's `limits`, or open fewer queries with --consul-polls; it is asked less often now",
    "NoLeader": "see that a majority of Consul's servers runs; what was last seen stands",
    "NoPath": "see that the datacenter's servers run and are joined over WAN; what was last seen of it stands",
    "NotEnterprise": "leave out --consul-query-namespace and --consul-partition: only Consul Enterprise has these",
    "Failed": "look into the agent's log; it is asked again, and what was last seen stands",
    "Unreadable": "see that the address is that of a Consul agent; it is asked again, and what was last seen stands",
    "TooOld": "see that Consul's servers reach each other, or allow older answers with --consul-max-stale",
}


class TooOldError(UnreachableError):
    """A server answered from what it knew long ago."""


class Trouble(msgspec.Struct, frozen=True):
    """Why something could not be asked."""

    code: Code
    message: str


def trouble(error: Failure) -> Trouble:
    """What a failure is, to people."""
    text = str(error)
    if isinstance(error, TooOldError):
        return Trouble("TooOld", text)
    if isinstance(error, UnreachableError):
        return Trouble("Unreachable", text)
    if isinstance(error, UnreadableError):
        return Trouble("Unreadable", text)
    words = text.lower()
    if error.status in (401, 403):
        return Trouble("Forbidden", text)
    if _is_too_many(error):
        return Trouble("RateLimited", text)
    if "http request to an https server" in words:
        return Trouble("Unreachable", f"{text} (write https:// in its address)")
    if "no cluster leader" in words or "no known consul servers" in words:
        return Trouble("NoLeader", text)
    if "no path to datacenter" in words or "remote dc" in words:
        return Trouble("NoPath", text)
    if error.status >= _SERVERS_FAIL and any(part in words for part in _NO_SERVER):
        return Trouble("NoLeader", text)  # the agent cannot connect to the server that it knows as the leader
    if "enterprise feature" in words:
        return Trouble("NotEnterprise", text)
    return Trouble("Failed", text)


def fix(why: Trouble) -> str:
    """What helps."""
    return _FIXES[why.code]


def _is_too_many(error: ConsulError) -> bool:
    return error.status == _TOO_MANY or "rate limit" in error.message.lower()


class Situation(msgspec.Struct, frozen=True):
    """How a datacenter stands: what is wrong with its list of services, with these, and with their instances."""

    source: str
    catalog: Trouble | None = None
    services: tuple[tuple[str, Trouble], ...] = ()
    rights_lost: bool = False
    odd_names: tuple[str, ...] = ()
    odd_addresses: tuple[str, ...] = ()
    odd_meta: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()


def told(situations: Iterable[Situation]) -> tuple[Problem, ...]:
    """The problems of all datacenters."""
    found: list[Problem] = []
    for at in situations:
        if at.catalog is not None:
            message = f"Consul cannot be asked: {at.catalog.message}"
            found.append(_problem(at.catalog.code, message, _FIXES[at.catalog.code], at.source))
        else:
            found.extend(_services(at))
        if at.rights_lost:
            message = "the token sees less than it did: even the service `consul` is gone"
            fix = "give the token its rights back; nothing is removed meanwhile, and what was last seen stands"
            found.append(_problem("RightsLost", message, fix, at.source))
        if at.hidden:
            message = f"not one instance of {_some(at.hidden)} is shown, though it is listed"
            fix = "give the token `node:read` too; nothing is removed meanwhile, and what was last seen stands"
            found.append(_problem("Hidden", message, fix, at.source))
        if at.odd_names:
            message = f"{_some(at.odd_names)} cannot be the name of a service here"
            fix = "register it under a name of lower-case letters, digits and '-', at most 63; it is left out"
            found.append(_problem("OddName", message, fix, at.source, level="warning"))
        if at.odd_addresses:
            message = f"nobody can connect to {_some(at.odd_addresses)}"
            fix = "register the IP address of one instance, without a scope; the instance is left out"
            found.append(_problem("OddAddress", message, fix, at.source, level="warning"))
        if at.odd_meta:
            message = f"{_some(at.odd_meta)} means nothing here"
            fix = (
                "write a port from 1 to 65535, http, http2, grpc, tls or tcp, and a namespace's name; it is passed over"
            )
            found.append(_problem("OddMeta", message, fix, at.source, level="warning"))
    return tuple(found)


def crowded(source: str, *, services: int, places: int, seconds: float) -> Problem:
    """That not all queries can be open at once."""
    message = f"{services} services share {places} open queries; each that is needed is asked every {seconds:.1f} s"
    fix = "raise --consul-polls, and `limits.http_max_conns_per_client` of the agent above that"
    return _problem("Crowded", message, fix, source, level="warning")


def _services(at: Situation) -> Iterable[Problem]:
    by_code: dict[Code, list[tuple[str, Trouble]]] = {}
    for name, why in at.services:
        by_code.setdefault(why.code, []).append((name, why))
    for code, troubles in sorted(by_code.items()):
        names = _some([name for name, _ in troubles])
        yield _problem(code, f"{names} cannot be asked for: {troubles[0][1].message}", _FIXES[code], at.source)


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(repr(name[:63]) for name in listed[:3]) + more


def _problem(code: str, message: str, fix: str, source: str, *, level: Level = "error") -> Problem:
    return Problem(code, level, "", message, fix, source)
