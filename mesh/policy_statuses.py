"""What users are told of their policies: whether the targets are there, and which fields count for nothing.

`Accepted` says that the policy is in force for at least one target; `ResolvedRefs` that all its targets exist;
`Conflicted` appears where an older policy for the same target sets the same fields, and names them. That a wider or
narrower policy wins is no conflict but what levels are for: `fairlead get policies --effective` shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from mesh.client_policies import (
    PORT_FIELDS,
    certificates_without_effect,
    held_revocations,
    http3_without_effect,
    on_port,
    shared_with_others,
    sharing,
)
from mesh.conditions import Condition
from mesh.envoy_patches import patch_conditions, target_refs
from mesh.failovers import missing_successors
from mesh.gateways import GATEWAYS, GatewayKey
from mesh.kinds.clientpolicy import BROKEN_VERSIONS, ClientPolicy, revocation_lists
from mesh.kinds.listenerset import ListenerSet
from mesh.kinds.meta import Object
from mesh.kinds.policy import PolicyTargetReference
from mesh.kinds.requestauthentication import RequestAuthentication
from mesh.kinds.routepolicy import RoutePolicy
from mesh.kinds.telemetrypolicy import TelemetryPolicy
from mesh.kinds.trafficpolicy import Failover, TrafficPolicy
from mesh.model import ObjectKey, ServiceKey
from mesh.objects import OBJECTS, find
from mesh.policies import Level, Loss, Target, losses, paths_of, target_of
from mesh.problems import sentence
from mesh.request_authentication import key_conditions, missing_target, without_effect, without_http
from mesh.request_routes import REQUEST_KINDS, find_request_route
from mesh.results import problems_of
from mesh.services import SERVICES, SUBSETS, SubsetKey
from mesh.tables import Look
from mesh.telemetry_policies import missing_collectors, unwritable
from mesh.tries import untimely_targets

_SHOWN = 8


def traffic_policy_conditions(look: Look, key: ObjectKey) -> tuple[Condition, ...]:
    """The conditions of a TrafficPolicy."""
    policy = find(look, TrafficPolicy, key)
    if policy is None:
        return ()
    idle = " ".join([*_without_effect(look, key, policy), *untimely_targets(look, key, policy)])
    told = _conditions(look, key, policy, policy.spec.target_refs, _missing_backend, idle)
    wrong = [
        one for path, failover in _failovers(policy) for one in missing_successors(look, key, policy, path, failover)
    ]
    said = " ".join(dict.fromkeys(message for _, message in wrong))
    return tuple(_also_missing(one, wrong[0][0], said) if wrong else one for one in told)


def _failovers(policy: TrafficPolicy) -> Iterator[tuple[str, Failover]]:
    for path, settings in (("spec", policy.spec), ("spec.overrides", policy.spec.overrides)):
        if settings is not None and settings.failover is not None:
            yield f"{path}.failover", settings.failover


def route_policy_conditions(look: Look, key: ObjectKey) -> tuple[Condition, ...]:
    """The conditions of a RoutePolicy."""
    policy = find(look, RoutePolicy, key)
    if policy is None:
        return ()
    return (*_conditions(look, key, policy, policy.spec.target_refs, _missing_place), *_made_without(look, key))


def _made_without(look: Look, key: ObjectKey) -> Iterator[Condition]:
    """What of a policy was left out where routes were made, and why."""
    wrong = [f"{resource}: {sentence(problem)}" for resource, problem in problems_of(look, key) if problem]
    if wrong:
        more = f" So it is in {len(wrong) - _SHOWN} more." if len(wrong) > _SHOWN else ""
        yield Condition("Programmed", False, "Invalid", f"{' '.join(wrong[:_SHOWN])}{more}")


def request_authentication_conditions(look: Look, key: ObjectKey) -> tuple[Condition, ...]:
    """The conditions of a RequestAuthentication."""
    policy = find(look, RequestAuthentication, key)
    if policy is None:
        return ()
    missing = {
        "Gateway": missing_target,
        "ListenerSet": lambda *at: _missing_listener_set(*at) or without_http(*at),
        **dict.fromkeys(REQUEST_KINDS, _missing_route),
    }
    idle = " ".join(without_effect(look, key, policy))
    told = _conditions(
        look,
        key,
        policy,
        policy.spec.target_refs,
        lambda look, key, ref: missing.get(ref.kind, _missing_backend)(look, key, ref),
        idle,
    )
    return (*told, *key_conditions(look, policy))


def client_policy_conditions(look: Look, key: ObjectKey) -> tuple[Condition, ...]:
    """The conditions of a ClientPolicy."""
    policy = find(look, ClientPolicy, key)
    if policy is None:
        return ()
    refs = policy.spec.target_refs
    sections = [(GatewayKey(key.namespace, ref.name), ref.section_name) for ref in refs if ref.kind == "Gateway"]
    given = [policy.spec.http3, policy.spec.overrides.http3 if policy.spec.overrides else None]
    asks = any(http3 is not None and http3.enabled for http3 in given)
    idle = [said for at, section in sections if asks for said in http3_without_effect(look, at, section)]
    own = {path.removeprefix("overrides.") for path in paths_of(policy)}
    idle += [said for at, section in sections for said in certificates_without_effect(look, at, section, own)]
    idle += _shared_with_others(look, key, refs)
    idle += _old_tls(policy)
    lost = sorted({loss for ref in refs for loss in _client_losses(look, key, ref)})
    told = _conditions(look, key, policy, refs, _missing_place, " ".join(idle), lost)
    lists = (held_revocations(look, key.namespace, crl).problem for crl in revocation_lists(policy))
    missing = " ".join(f"No client with a certificate is let in: {sentence(why)}" for why in lists if why)
    return tuple(_also_missing(one, "InvalidCRL", missing) if missing else one for one in told)


def _old_tls(policy: ClientPolicy) -> Iterator[str]:
    for path, one in (("spec", policy.spec), ("spec.overrides", policy.spec.overrides)):
        if one is not None and one.tls is not None and one.tls.min_version in BROKEN_VERSIONS:
            yield f"{path}.tls.minVersion allows TLS {one.tls.min_version}, which is broken (RFC 8996)."


def _shared_with_others(look: Look, key: ObjectKey, refs: Iterable[PolicyTargetReference]) -> Iterator[str]:
    for ref in refs:
        if ref.kind == ListenerSet.__name__:
            yield from shared_with_others(look, ObjectKey(ref.kind, key.namespace, ref.name), ref.section_name)


def _client_losses(look: Look, key: ObjectKey, ref: PolicyTargetReference) -> Iterator[Loss]:
    """The fields that an older policy sets for the same Gateway or listener, or for one with which that shares them."""
    gateway = look(GATEWAYS, GatewayKey(key.namespace, ref.name)) if ref.kind == "Gateway" else None
    listener = gateway.listener(ref.section_name) if gateway is not None and ref.section_name is not None else None
    if gateway is None or listener is None:
        yield from losses(look, key, [_level(key, ref)])
        return
    target = target_of(key, ref)
    yield from losses(look, key, [Level(target, sharing(gateway, listener))])
    for loss in losses(look, key, [Level(target, on_port(gateway, listener))]):
        if loss.path.removeprefix("overrides.").startswith(PORT_FIELDS):
            yield loss


def telemetry_policy_conditions(look: Look, key: ObjectKey) -> tuple[Condition, ...]:
    """The conditions of a TelemetryPolicy."""
    policy = find(look, TelemetryPolicy, key)
    if policy is None:
        return ()
    refs = policy.spec.target_refs
    lost = sorted({loss for ref in refs for loss in _shared_losses(look, key, ref)})
    idle = " ".join(_shared_with_others(look, key, refs))
    told = _conditions(look, key, policy, refs, _missing_place, idle, lost)
    missing = " ".join(missing_collectors(look, key))
    told = tuple(_also_missing(one, "BackendNotFound", missing) if missing else one for one in told)
    refused = unwritable(look, key)
    if not refused:
        return told
    said = f"{refused} Its log files are left out. Fix: name files that the proxy can write; they are then tried again."
    return (*told, Condition("Programmed", False, "Rejected", said))


def _also_missing(condition: Condition, reason: str, said: str) -> Condition:
    """A condition; if it is `ResolvedRefs`, with what is missing beside the targets that are."""
    if condition.type != "ResolvedRefs":
        return condition
    if condition.status:
        return Condition("ResolvedRefs", False, reason, said)
    return Condition("ResolvedRefs", False, condition.reason, f"{condition.message} {said}")


def envoy_patch_conditions(look: Look, key: ObjectKey) -> tuple[Condition, ...]:
    """The conditions of an EnvoyPatch."""
    missing = {"Gateway": _missing_gateway, **dict.fromkeys(REQUEST_KINDS, _missing_route)}
    why = [missing.get(ref.kind, _missing_backend)(look, key, ref) for ref in target_refs(look, key)]
    return patch_conditions(look, key, why)


def _shared_losses(look: Look, key: ObjectKey, ref: PolicyTargetReference) -> Iterator[Loss]:
    """The fields that an older policy sets for the same target, or for a listener that shares its chain."""
    gateway = look(GATEWAYS, GatewayKey(key.namespace, ref.name)) if ref.kind == "Gateway" else None
    listener = gateway.listener(ref.section_name) if gateway is not None and ref.section_name is not None else None
    if gateway is None or listener is None:
        return losses(look, key, [_level(key, ref)])
    return losses(look, key, [Level(target_of(key, ref), sharing(gateway, listener))])


def _missing_place(look: Look, key: ObjectKey, ref: PolicyTargetReference) -> str:
    missing = {"Gateway": _missing_gateway, "ListenerSet": _missing_listener_set}
    return missing.get(ref.kind, _missing_route)(look, key, ref)


def _missing_listener_set(look: Look, key: ObjectKey, ref: PolicyTargetReference) -> str:
    at = f"ListenerSet {key.namespace}/{ref.name}"
    found = find(look, ListenerSet, ObjectKey("ListenerSet", key.namespace, ref.name))
    if found is None:
        return f"{at} does not exist."
    names = [listener.name for listener in found.spec.listeners]
    if ref.section_name is not None and ref.section_name not in names:
        return f"{at} has no listener {ref.section_name}; it has: {', '.join(names)}."
    return ""


def _missing_gateway(look: Look, key: ObjectKey, ref: PolicyTargetReference) -> str:
    if ref.kind == "Namespace":
        return ""
    gateway = look(GATEWAYS, GatewayKey(key.namespace, ref.name))
    if gateway is None:
        return f"Gateway {key.namespace}/{ref.name} does not exist, or is of a class that is not ours."
    if ref.section_name is not None and gateway.listener(ref.section_name) is None:
        known = ", ".join(listener.name for listener in gateway.listeners) or "none"
        return f"Gateway {key.namespace}/{ref.name} has no listener {ref.section_name}; it has: {known}."
    return ""


def _missing_route(look: Look, key: ObjectKey, ref: PolicyTargetReference) -> str:
    if ref.kind == "Namespace":
        return ""
    route = find_request_route(look, ObjectKey(ref.kind, key.namespace, ref.name))
    if route is None:
        return f"{ref.kind} {key.namespace}/{ref.name} does not exist."
    names = [rule.name for rule in route.rules if rule.name is not None]
    if ref.section_name is not None and ref.section_name not in names:
        known = ", ".join(names) or "none (give the rule a name)"
        return f"{ref.kind} {key.namespace}/{ref.name} has no rule {ref.section_name}; it has: {known}."
    return ""


def _conditions(
    look: Look,
    key: ObjectKey,
    policy: Object,
    refs: Sequence[PolicyTargetReference],
    missing_one: Callable[[Look, ObjectKey, PolicyTargetReference], str],
    idle: str = "",
    lost: Sequence[Loss] | None = None,
) -> tuple[Condition, ...]:
    """The conditions of a policy; `missing_one` says why a target is not there, `idle` what of it has no effect.

    `lost` are the fields that do not count, where that is not those of its targets alone.
    """
    missing = [f"spec.targetRefs[{at}]: {why}" for at, ref in enumerate(refs) if (why := missing_one(look, key, ref))]
    if lost is None:
        lost = sorted(set(losses(look, key, (_level(key, ref) for ref in refs))))
    resolved = Condition("ResolvedRefs", True, "ResolvedRefs")
    if missing:
        resolved = Condition("ResolvedRefs", False, "TargetNotFound", " ".join(missing))
    conflicted = _told(lost)
    if len(missing) == len(refs):
        accepted = Condition("Accepted", False, "TargetNotFound", " ".join(missing))
    elif lost and len(lost) >= len(paths_of(policy)) * len(refs):
        accepted = Condition("Accepted", False, "Conflicted", conflicted)
    else:
        accepted = Condition("Accepted", True, "Accepted", idle)
    told = (Condition("Conflicted", True, "Conflicted", conflicted),) if lost else ()
    return (accepted, resolved, *told)


def _without_effect(look: Look, key: ObjectKey, policy: TrafficPolicy) -> Iterator[str]:
    """What of a policy cannot be done for a target of its own: gRPC health checks of ports without HTTP/2."""
    given = [policy.spec.health_checks, policy.spec.overrides.health_checks if policy.spec.overrides else None]
    if not any(check.grpc is not None for checks in given for check in checks or ()):
        return
    for ref in policy.spec.target_refs:
        service = look(SERVICES, ServiceKey(key.namespace, ref.name)) if ref.kind == "Service" else None
        for port in service.ports if service is not None else ():
            if ref.section_name in (None, port.name, str(port.port)) and port.protocol not in ("HTTP2", "GRPC"):
                at = f"port {port.port} of Service {key.namespace}/{ref.name}"
                yield f"gRPC health checks have no effect on {at}, which speaks {port.protocol}."


def _told(lost: Iterable[Loss]) -> str:
    found = list(lost)
    shown = ", ".join(f"{loss.path} ({loss.winner})" for loss in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"Older policies for the same target set these fields: {shown}{more}."


def _level(key: ObjectKey, ref: PolicyTargetReference) -> Level:
    sections = frozenset({ref.section_name}) if ref.section_name is not None else frozenset[str]()
    return Level(target_of(key, ref), sections)


def _missing_backend(look: Look, key: ObjectKey, ref: PolicyTargetReference) -> str:
    """Why a target is not there; empty where it is."""
    target = Target(key.kind, ref.kind, key.namespace, ref.name)
    at = f"{ref.kind} {target.namespace}/{target.name}"
    if ref.kind == "Namespace":
        return ""
    if ref.kind == "Backend":
        there = look(OBJECTS, ObjectKey(ref.kind, target.namespace, target.name)) is not None
        return "" if there else f"{at} does not exist."
    service = ServiceKey(target.namespace, target.name)
    if ref.kind == "ServiceSubset":
        subset = look(SUBSETS, SubsetKey(target.namespace, target.name))
        if subset is None:
            return f"{at} does not exist."
        service = subset.service
    row = look(SERVICES, service)
    if row is None:
        return f"Service {service.namespace}/{service.name} does not exist."
    if ref.section_name is not None and not any(ref.section_name in (port.name, str(port.port)) for port in row.ports):
        known = ", ".join(port.name or str(port.port) for port in row.ports) or "none"
        return f"{at} has no port {ref.section_name}; it has: {known}."
    return ""
