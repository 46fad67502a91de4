"""Who may call a service, as platforms tell it: Consul's intentions. Known and shown; nobody enforces them yet.

Of the rules for a service the first whose caller matches decides: it allows, denies, or has permissions, of which the
first that matches a request decides and without one it is denied. What holds where no rule matches is the platform's
default, which is not told here.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from mesh.model import ServiceKey
from mesh.services import SERVICES, Service
from mesh.tables import Input, Look, derived, each

ANY = "*"
PLATFORMS = frozenset({"consul"})
Action = Literal["ALLOW", "DENY"]
Match = Literal["present", "exact", "prefix", "suffix", "contains", "regex"]


class Caller(msgspec.Struct, frozen=True, order=True):
    """Services that call, `*` for any; empty fields mean the called service's own. `peer` is another cluster."""

    name: str
    namespace: str = ""
    partition: str = ""
    peer: str = ""
    sameness_group: str = ""


class HeaderRule(msgspec.Struct, frozen=True):
    """What a header must be."""

    name: str
    match: Match
    value: str = ""
    invert: bool = False
    ignore_case: bool = False


class TokenRule(msgspec.Struct, frozen=True):
    """A JSON Web Token that a request must carry: of which provider, with which claims (path and value)."""

    provider: str
    claims: tuple[tuple[tuple[str, ...], str], ...] = ()


class Permission(msgspec.Struct, frozen=True):
    """What holds for some requests. Empty fields match all."""

    action: Action
    path: str = ""
    path_match: Literal["", "exact", "prefix", "regex"] = ""
    methods: tuple[str, ...] = ()
    headers: tuple[HeaderRule, ...] = ()
    tokens: tuple[TokenRule, ...] = ()


class AuthorizationRule(msgspec.Struct, frozen=True):
    """What holds for some callers. `action` is empty where `permissions` decide. Higher `precedence` comes first."""

    caller: Caller
    action: Literal["", "ALLOW", "DENY"]
    precedence: int
    permissions: tuple[Permission, ...] = ()
    tokens: tuple[TokenRule, ...] = ()
    description: str = ""


class AuthorizationKey(NamedTuple):
    """What a platform says of one of its services, `*` for all. The platform's default namespace is empty."""

    source: str
    namespace: str
    service: str


class Authorizations(msgspec.Struct, frozen=True):
    """Rules in the order in which they are asked. `unreadable`: there is more, and why it is not understood."""

    rules: tuple[AuthorizationRule, ...]
    unreadable: str = ""


DISCOVERED_AUTHORIZATIONS: Input[AuthorizationKey, Authorizations] = Input("discovered_authorizations")


def _of_a_platform(key: ServiceKey, row: Service) -> tuple[ServiceKey, ...]:
    return (key,) if platforms(row) else ()


def platforms(service: Service) -> tuple[str, ...]:
    """The platforms with such rules that tell of a service: `consul`, of which there may be several datacenters."""
    return tuple(sorted({source.partition(":")[0] for source in service.sources} & PLATFORMS))


@derived("authorizations", each(SERVICES, _of_a_platform))
def AUTHORIZATIONS(key: ServiceKey, look: Look) -> Authorizations | None:  # noqa: N802
    """The rules for each service that a platform has rules for: its own and those for all, the first that holds first.

    The platform may have put the service into a namespace of ours that it does not know itself (its default one).
    """
    service = look(SERVICES, key)
    if service is None:
        return None
    rules: list[AuthorizationRule] = []
    unreadable: list[str] = []
    for source in platforms(service):
        for namespace, name in dict.fromkeys(
            (("", key.name), (key.namespace, key.name), ("", ANY), (key.namespace, ANY), (ANY, ANY))
        ):
            row = look(DISCOVERED_AUTHORIZATIONS, AuthorizationKey(source, namespace, name))
            if row is not None:
                rules += row.rules
                unreadable += [row.unreadable] if row.unreadable else []
    if not rules and not unreadable:
        return None
    rules.sort(key=lambda rule: (-rule.precedence, rule.caller))
    return Authorizations(tuple(rules), "; ".join(unreadable))


def deciding(authorizations: Authorizations, caller: Caller) -> AuthorizationRule | None:
    """The rule that decides on a caller; None where the platform's default does."""
    for rule in authorizations.rules:
        said = rule.caller
        elsewhere = (said.peer, said.sameness_group) != (caller.peer, caller.sameness_group)
        if not elsewhere and said.name in (ANY, caller.name) and said.namespace in (ANY, caller.namespace):
            return rule
    return None
