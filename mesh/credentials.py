"""Credentials that gateways add to requests, out of Secrets (RoutePolicy's `credentialInjection`).

Whether one can be had is a row of its own without its value, so that a renewed Secret reaches Envoy and changes neither
routes nor clusters. A credential must not leave the hands of those who own it: it is its own namespace's routes that
may send it, and to backends that they name.
"""

from __future__ import annotations

import re

import msgspec

from mesh.backends import Backend
from mesh.certificates import entry
from mesh.kinds.routepolicy import CredentialInjection, RoutePolicy, credential
from mesh.kinds.secret import Secret
from mesh.model import Declared, ObjectKey
from mesh.objects import OBJECTS, find
from mesh.outside import find_outside
from mesh.route_rules import ROUTE_RULES
from mesh.tables import Look, Reader, derived, each

MOST_BYTES = 8192
_UNFIT = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Credential(msgspec.Struct, frozen=True):
    """What a policy injects; `problem` says why it cannot be had, without a full stop, and is empty where it can."""

    wanted: CredentialInjection
    problem: str = ""


def _injecting(key: ObjectKey, row: Declared) -> tuple[ObjectKey, ...]:
    return (key,) if isinstance(row.object, RoutePolicy) and credential(row.object) is not None else ()


@derived("credentials", each(OBJECTS, _injecting))
def CREDENTIALS(key: ObjectKey, look: Look) -> Credential | None:  # noqa: N802
    """The credential of each RoutePolicy that has one."""
    policy = find(look, RoutePolicy, key)
    wanted = credential(policy) if policy is not None else None
    if wanted is None:
        return None
    value = credential_value(look, key.namespace, wanted)
    return Credential(wanted, value if isinstance(value, str) else "")


def credential_value(look: Reader, namespace: str, wanted: CredentialInjection) -> bytes | str:
    """The bytes of a credential, or why it cannot be had."""
    name = f"Secret {namespace}/{wanted.secret.name}"
    secret = find(look, Secret, ObjectKey("Secret", namespace, wanted.secret.name))
    if secret is None:
        return f"{name} does not exist"
    value = entry(secret.data, secret.string_data, wanted.secret.key)
    if value is None:
        return f"{name} has no entry {wanted.secret.key}"
    where = f"{name}'s entry {wanted.secret.key}"
    if not value or len(value) > MOST_BYTES:
        return f"{where} has {len(value)} bytes; a credential has 1 to {MOST_BYTES}"
    if _UNFIT.search(value):
        return f"{where} has control characters, which no header may have (a line break at its end? use `printf`)"
    return value


def chosen(look: Reader, route: ObjectKey, rule: str | None) -> ObjectKey | None:
    """The policy whose credential requests of a rule get; None where none wants one, or they cannot have it."""
    rules = look(ROUTE_RULES, route)
    effective = rules.of_rule(rule) if rules is not None else None
    if effective is None or effective.settings.credential_injection is None:
        return None
    policy = effective.said_by("credentialInjection")
    return policy if not why_without(look, route, policy) else None


def why_without(look: Reader, route: ObjectKey, policy: ObjectKey) -> str:
    """Why requests of a route cannot have the credential of a policy, without a full stop; empty where they can."""
    if policy.namespace != route.namespace:
        return f"a credential of {policy.namespace} is not for routes of {route.namespace}: write the policy there"
    found = look(CREDENTIALS, policy)
    return found.problem if found is not None else "it has no credential"


def may_inject(look: Reader, backend: Backend) -> bool:
    """Whether a credential may go to a backend: not where each request itself says which host that is."""
    found = find_outside(look, backend.service) if backend.outside else None
    return found is None or found.spec.dynamic_resolver is None
