"""How backends are spoken to over TLS: what BackendTLSPolicies say of a service's port, and what came of each policy.

Of several policies for the same target the oldest counts; one for a port counts before one for the whole service. A
policy without a usable authority is not passed over, which would send in plaintext what somebody wants encrypted:
connections are made with nobody to trust, fail, and requests answer 503.

Authorities are named here and read where the secret is made, so that renewed ones reach Envoy and change no cluster.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from mesh.client_validation import CLIENT_AUTHORITIES_STATES, KINDS
from mesh.conditions import Condition
from mesh.kinds.backendtlspolicy import SYSTEM, BackendTLSPolicy
from mesh.kinds.policy import PolicyTargetReference
from mesh.kinds.references import FAIRLEAD, LocalObjectReference
from mesh.model import SYSTEM_TRUST, Declared, ObjectKey, ServiceKey, ServicePort
from mesh.objects import OBJECTS, find
from mesh.precedence import age
from mesh.services import SERVICES
from mesh.tables import Look, Reader, derived, each

SERVICE = "Service"
OUTSIDE = "Backend"
TARGET_KINDS = (("", SERVICE), (FAIRLEAD, SERVICE), (FAIRLEAD, OUTSIDE))


class TargetKey(NamedTuple):
    """A service, or a port of one by its name, that policies are for; `outside`: a Backend of that name instead."""

    service: ServiceKey
    section: str = ""
    outside: bool = False


class BackendTLS(msgspec.Struct, frozen=True):
    """What TLS towards a backend is: the server name, and the names of which its certificate must have one.

    `names` are pairs of `DNS` or `URI` and the name. Authorities are those of the objects, or with `system` those of
    the system; where there are none no certificate is good enough.
    """

    policy: ObjectKey
    server_name: str
    names: tuple[tuple[str, str], ...]
    authorities: tuple[ObjectKey, ...] = ()
    system: bool = False


class JudgedPolicy(msgspec.Struct, frozen=True):
    """What came of a policy by itself, whatever else is for the same targets."""

    tls: BackendTLS
    accepted: Condition
    resolved: Condition


def _policy(key: ObjectKey, _row: Declared) -> tuple[ObjectKey, ...]:
    return (key,) if key.kind == BackendTLSPolicy.__name__ else ()


def target(namespace: str, ref: PolicyTargetReference) -> TargetKey | None:
    """What a targetRef names; None where it is of no kind that such a policy can be for."""
    if (ref.group, ref.kind) not in TARGET_KINDS:
        return None
    return TargetKey(ServiceKey(namespace, ref.name), ref.section_name or "", outside=ref.kind == OUTSIDE)


def _targets(key: ObjectKey, row: Declared) -> Iterable[TargetKey]:
    if not isinstance(row.object, BackendTLSPolicy):
        return ()
    found = (target(key.namespace, ref) for ref in row.object.spec.target_refs)
    return {one for one in found if one is not None}


TLS_POLICIES_BY_TARGET = OBJECTS.index("tls_target", _targets)


@derived("tls_policies", each(OBJECTS, _policy))
def TLS_POLICIES(key: ObjectKey, look: Look) -> JudgedPolicy | None:  # noqa: N802
    """Each policy, judged by itself."""
    policy = find(look, BackendTLSPolicy, key)
    if policy is None:
        return None
    validation = policy.spec.validation
    usable: list[ObjectKey] = []
    problems: list[Condition] = []
    for ref in validation.ca_certificate_refs:
        at = ObjectKey(ref.kind, key.namespace, ref.name)
        problem = _problem(look, ref, at)
        if problem is not None:
            problems.append(problem)
        elif at not in usable:
            usable.append(at)
    names = [(one.type, one.hostname or one.uri or "") for one in validation.subject_alt_names]
    tls = BackendTLS(
        policy=key,
        server_name=validation.hostname,
        names=tuple(("DNS" if kind == "Hostname" else kind, name) for kind, name in names)
        or (("DNS", validation.hostname),),
        authorities=tuple(usable),
        system=validation.well_known_ca_certificates == SYSTEM,
    )
    resolved = problems[0] if problems else Condition("ResolvedRefs", True, "ResolvedRefs")
    return JudgedPolicy(tls, _accepted(look, policy, tls, problems), resolved)


def _accepted(look: Look, policy: BackendTLSPolicy, tls: BackendTLS, problems: list[Condition]) -> Condition:
    if tls.authorities:
        return Condition("Accepted", True, "Accepted")
    if problems:
        return Condition("Accepted", False, "NoValidCACertificate", problems[0].message)
    if not tls.system:
        known = policy.spec.validation.well_known_ca_certificates
        said = f"wellKnownCACertificates {known!r} is not known; write {SYSTEM}, or name a ConfigMap."
        return Condition("Accepted", False, "Invalid", said)
    if look(SYSTEM_TRUST, "") is None:
        said = "The server's system has no store of authorities; install ca-certificates there, or name a ConfigMap."
        return Condition("Accepted", False, "Invalid", said)
    return Condition("Accepted", True, "Accepted")


def _problem(look: Look, ref: LocalObjectReference, key: ObjectKey) -> Condition | None:
    if ref.group != "" or ref.kind not in KINDS:
        said = f"caCertificateRefs names {ref.kind} {ref.name} of group {ref.group!r}; use a core ConfigMap or Secret."
        return Condition("ResolvedRefs", False, "InvalidKind", said)
    state = look(CLIENT_AUTHORITIES_STATES, key)
    if state is None or state.problem:
        said = f"{key} {state.problem}." if state is not None else f"{key} does not exist."
        return Condition("ResolvedRefs", False, "InvalidCACertificateRef", said)
    return None


ALL_TLS_POLICIES = TLS_POLICIES.index("all", lambda _key, _row: ("",))


def winner(look: Reader, at: TargetKey) -> ObjectKey | None:
    """The oldest policy for a target; None where there is none."""
    keys = look.keys(TLS_POLICIES_BY_TARGET, at)
    return min(keys, key=lambda key: _age(look, key)) if keys else None


def _age(look: Reader, key: ObjectKey) -> tuple[float, str, str]:
    policy = find(look, BackendTLSPolicy, key)
    return age(policy.metadata) if policy is not None else (float("inf"), key.namespace, key.name)


def backend_tls(look: Reader, service: ServiceKey, port: ServicePort, *, outside: bool = False) -> BackendTLS | None:
    """How a port of a service, or a Backend of that name, is spoken to over TLS; None where no policy asks for it."""
    if port.udp:
        return None
    by_port = winner(look, TargetKey(service, port.name)) if port.name else None
    policy = by_port or winner(look, TargetKey(service, outside=outside))
    judged = look(TLS_POLICIES, policy) if policy is not None else None
    return judged.tls if judged is not None else None


def tls_policy_conditions(look: Look, key: ObjectKey) -> tuple[Condition, ...]:
    """The conditions of a policy, its rivals and targets considered."""
    policy, judged = find(look, BackendTLSPolicy, key), look(TLS_POLICIES, key)
    if policy is None or judged is None:
        return ()
    missing: list[str] = []
    for number, ref in enumerate(policy.spec.target_refs):
        at = target(key.namespace, ref)
        rival = winner(look, at) if at is not None else None
        if rival is not None and rival != key:
            said = f"spec.targetRefs[{number}]: {rival} is older and has {ref.kind} {ref.name} already."
            return Condition("Accepted", False, "Conflicted", said), judged.resolved
        why = _missing(look, at, ref)
        if why:
            missing.append(f"spec.targetRefs[{number}]: {why}")
    if len(missing) == len(policy.spec.target_refs) and judged.accepted.status:
        return Condition("Accepted", False, "TargetNotFound", " ".join(missing)), judged.resolved
    return judged.accepted, judged.resolved


def _missing(look: Look, at: TargetKey | None, ref: PolicyTargetReference) -> str:
    if at is None:
        return f"a BackendTLSPolicy cannot be for {ref.kind} of group {ref.group!r}."
    name = f"{ref.kind} {at.service.namespace}/{at.service.name}"
    if at.outside:
        found = look(OBJECTS, ObjectKey(OUTSIDE, *at.service))
        return f"{name} does not exist." if found is None else ""
    service = look(SERVICES, at.service)
    if service is None:
        return f"{name} does not exist."
    if at.section and at.section not in {port.name for port in service.ports}:
        known = ", ".join(port.name for port in service.ports if port.name) or "none that has a name"
        return f"{name} has no port named {at.section}; it has: {known}."
    return ""
