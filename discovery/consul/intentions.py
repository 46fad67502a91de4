"""Consul's intentions as rules of the model: what an agent answers, old or new, and what it means. Pure.

Agents from 1.9 on have config entries of the kind `service-intentions`, one for each service that is called, with
permissions for HTTP requests and, from 1.16 on, tokens. Older ones have a list of intentions, one for each pair of
services. What is in a permission and not known here might narrow it, so such an entry is not taken for less than it
says: it counts as unreadable, and that is told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal, cast

import msgspec

from discovery.consul.wire import NOT_JSON, UnreadableError
from mesh.authorization import (
    ANY,
    Action,
    AuthorizationKey,
    AuthorizationRule,
    Authorizations,
    Caller,
    HeaderRule,
    Match,
    Permission,
    TokenRule,
)

SOURCE = "consul"
ENTRIES_PATH = "/v1/config/service-intentions"
LIST_PATH = "/v1/connect/intentions"
_CONSULS_DEFAULT = "default"
_HIGHEST_PRECEDENCE = 9
_MATCHES: tuple[tuple[str, Match], ...] = (
    ("exact", "exact"),
    ("prefix", "prefix"),
    ("suffix", "suffix"),
    ("contains", "contains"),
    ("regex", "regex"),
)

Rows = Mapping[AuthorizationKey, Authorizations]


class _Claim(msgspec.Struct, frozen=True, rename="pascal", forbid_unknown_fields=True):
    path: tuple[str, ...] = ()
    value: str = ""


class _Provider(msgspec.Struct, frozen=True, rename="pascal", forbid_unknown_fields=True):
    name: str
    verify_claims: tuple[_Claim, ...] | None = None


class _Tokens(msgspec.Struct, frozen=True, rename="pascal", forbid_unknown_fields=True):
    providers: tuple[_Provider, ...] | None = None


class _Header(msgspec.Struct, frozen=True, rename="pascal", forbid_unknown_fields=True):
    name: str
    present: bool = False
    exact: str = ""
    prefix: str = ""
    suffix: str = ""
    contains: str = ""
    regex: str = ""
    invert: bool = False
    ignore_case: bool = False


class _Http(msgspec.Struct, frozen=True, rename="pascal", forbid_unknown_fields=True):
    path_exact: str = ""
    path_prefix: str = ""
    path_regex: str = ""
    header: tuple[_Header, ...] | None = None
    methods: tuple[str, ...] | None = None


class _Permission(msgspec.Struct, frozen=True, rename="pascal", forbid_unknown_fields=True):
    action: Literal["allow", "deny"]
    http: _Http | None = msgspec.field(default=None, name="HTTP")
    jwt: _Tokens | None = msgspec.field(default=None, name="JWT")


class _Source(msgspec.Struct, frozen=True, rename="pascal"):
    """A source of an entry, without its name for people and its past."""

    name: str
    namespace: str = ""
    partition: str = ""
    peer: str = ""
    sameness_group: str = ""
    action: Literal["", "allow", "deny"] = ""
    precedence: int = 0
    description: str = ""
    permissions: tuple[_Permission, ...] | None = None


class _Entry(msgspec.Struct, frozen=True, rename="pascal"):
    sources: tuple[_Source, ...] | None = None
    jwt: _Tokens | None = msgspec.field(default=None, name="JWT")


class _Named(msgspec.Struct, frozen=True, rename="pascal"):
    name: str
    namespace: str = ""


class _Intention(msgspec.Struct, frozen=True, rename="pascal"):
    """An intention of an agent before 1.9."""

    source_name: str
    destination_name: str
    action: Literal["allow", "deny"]
    source_ns: str = msgspec.field(default="", name="SourceNS")
    destination_ns: str = msgspec.field(default="", name="DestinationNS")
    precedence: int = 0
    description: str = ""


_RAWS = msgspec.json.Decoder(tuple[msgspec.Raw, ...])
_NAMED = msgspec.json.Decoder(_Named)
_ENTRY = msgspec.json.Decoder(_Entry)
_INTENTIONS = msgspec.json.Decoder(tuple[_Intention, ...] | None)


def of_entries(body: bytes) -> Rows:
    """What config entries say. One that is not understood has a row that says so.

    Raises:
        UnreadableError: the answer is no list of config entries.
    """
    rows: dict[AuthorizationKey, Authorizations] = {}
    try:
        for raw in _RAWS.decode(body or b"[]") if body.strip() != b"null" else ():
            named = _NAMED.decode(raw)
            key = AuthorizationKey(SOURCE, _namespace(named.namespace), named.name)
            try:
                rows[key] = _of_entry(_ENTRY.decode(raw), named)
            except msgspec.ValidationError as error:
                rows[key] = Authorizations((), f"the intentions for {named.name!r} are not understood: {error}")
    except NOT_JSON as error:
        raise UnreadableError(f"the intentions cannot be read: {error}") from None
    return rows


def _of_entry(entry: _Entry, named: _Named) -> Authorizations:
    tokens = _tokens(entry.jwt)
    rules = []
    for source in entry.sources or ():
        caller = Caller(source.name, _namespace(source.namespace), source.partition, source.peer, source.sameness_group)
        permissions = tuple(map(_permission, source.permissions or ()))
        precedence = source.precedence or _precedence(caller, named.namespace, named.name)
        action = _action(source.action) if source.action and not permissions else ""
        if not action and not permissions:
            raise msgspec.ValidationError(f"the source {source.name!r} has neither an action nor permissions")
        rules.append(AuthorizationRule(caller, action, precedence, permissions, tokens, source.description))
    return _sorted(rules)


def of_list(body: bytes) -> Rows:
    """What a list of intentions says.

    Raises:
        UnreadableError: it is none.
    """
    try:
        found = _INTENTIONS.decode(body) or ()
    except NOT_JSON as error:
        raise UnreadableError(f"the intentions cannot be read: {error}") from None
    rules: dict[AuthorizationKey, list[AuthorizationRule]] = defaultdict(list)
    for each in found:
        caller = Caller(each.source_name, _namespace(each.source_ns))
        precedence = each.precedence or _precedence(caller, each.destination_ns, each.destination_name)
        rule = AuthorizationRule(caller, _action(each.action), precedence, description=each.description)
        rules[AuthorizationKey(SOURCE, _namespace(each.destination_ns), each.destination_name)].append(rule)
    return {key: _sorted(of_one) for key, of_one in sorted(rules.items())}


def _sorted(rules: Iterable[AuthorizationRule]) -> Authorizations:
    return Authorizations(tuple(sorted(rules, key=lambda rule: (-rule.precedence, rule.caller))))


def _permission(said: _Permission) -> Permission:
    http = said.http or _Http()
    paths = (("exact", http.path_exact), ("prefix", http.path_prefix), ("regex", http.path_regex))
    match, path = next(((match, path) for match, path in paths if path), ("", ""))
    return Permission(
        _action(said.action),
        path,
        cast("Literal['', 'exact', 'prefix', 'regex']", match),
        tuple(http.methods or ()),
        tuple(map(_header, http.header or ())),
        _tokens(said.jwt),
    )


def _header(said: _Header) -> HeaderRule:
    for field, match in _MATCHES:
        if value := getattr(said, field):
            return HeaderRule(said.name, match, value, said.invert, said.ignore_case)
    if not said.present:
        raise msgspec.ValidationError(f"the header {said.name!r} says nothing of its value")
    return HeaderRule(said.name, "present", "", said.invert, said.ignore_case)


def _tokens(said: _Tokens | None) -> tuple[TokenRule, ...]:
    providers = (said.providers or ()) if said is not None else ()
    return tuple(
        TokenRule(each.name, tuple((claim.path, claim.value) for claim in each.verify_claims or ()))
        for each in providers
    )


def _action(said: str) -> Action:
    return "ALLOW" if said == "allow" else "DENY"


def _namespace(said: str) -> str:
    return "" if said == _CONSULS_DEFAULT else said


def _precedence(caller: Caller, namespace: str, name: str) -> int:
    """Consul's own table: exact names before any name, first of who is called, then of who calls."""
    called = 0 if name != ANY else 1 if namespace != ANY else 2
    calls = 0 if caller.name != ANY else 1 if caller.namespace != ANY else 2
    return _HIGHEST_PRECEDENCE - 3 * called - calls
