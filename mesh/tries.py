"""How long the requests of a rule may take, how long each try, and how many there are: what all who say it come to.

A route's own word wins over a TrafficPolicy's, field by field; a rule's `backendRequest` and a policy's `perTry` are
the same. Envoy knows the times of a route and not of a cluster: of several backends the most patient one counts.

Tries that their request has no time for are told wherever such words come from: one policy or route that says it all
alone is judged when it is written, several that each are sound tell it in the status of the narrowest of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from mesh.backends import Backend, resolve
from mesh.kinds.duration import milliseconds
from mesh.kinds.httproute import HTTPRouteRule
from mesh.kinds.policy import PolicyTargetReference
from mesh.kinds.trafficpolicy import TrafficPolicy, TrafficSettings
from mesh.model import ObjectKey, ServiceKey
from mesh.policies import (
    TRAFFIC,
    BackendKey,
    Effective,
    layers,
    merge,
    namespace_levels,
    paths_of,
)
from mesh.request_routes import RequestRoute
from mesh.services import SERVICES, SUBSETS, SubsetKey
from mesh.tables import Reader

_KIND = TrafficPolicy.__name__
_REQUEST, _PER_TRY, _ATTEMPTS = "timeouts.request", "timeouts.perTry", "retry.attempts"
_TRIES = frozenset({_REQUEST, _PER_TRY, _ATTEMPTS})


class Limit(msgspec.Struct, frozen=True):
    """A time as it is written, and who said it; 0 milliseconds are no limit."""

    text: str
    said: str

    @property
    def milliseconds(self) -> int:
        """The time."""
        return milliseconds(self.text)


class Limits(msgspec.Struct, frozen=True):
    """What holds for a rule: of the whole request and of each try, None where nobody says; and how many are repeated.

    `said` is who wants repetitions, empty where nobody does.
    """

    request: Limit | None = None
    per_try: Limit | None = None
    repeated: int = 0
    said: str = ""

    @property
    def whole(self) -> int | None:
        """Milliseconds that the answer may take, None or 0 for any number."""
        return self.request.milliseconds if self.request is not None else None

    @property
    def each(self) -> int | None:
        """The same of one try."""
        return self.per_try.milliseconds if self.per_try is not None else None

    @property
    def wanting(self) -> str:
        """That the tries may not end in time, without its full stop; empty where they may."""
        tries = 1 + self.repeated
        if self.request is None or self.per_try is None or not 0 < (self.whole or 0) < tries * (self.each or 0):
            return ""
        return f"{tries} of {self.per_try.text} in {self.request.text}"


def of_rule(look: Reader, route: ObjectKey, rule: HTTPRouteRule) -> Limits:
    """What holds for a rule of a route, by itself and by the policies of its backends."""
    found = (resolve(look, route=route, ref=ref) for ref in rule.backend_refs if ref.weight)
    by_policy = of_backends(look, [backend for backend in found if isinstance(backend, Backend)])
    own, retry = rule.timeouts, rule.retry
    request = Limit(own.request, "timeouts.request") if own is not None and own.request is not None else None
    per_try = own.backend_request if own is not None else None
    return Limits(
        request=request or by_policy.request,
        per_try=Limit(per_try, "timeouts.backendRequest") if per_try is not None else by_policy.per_try,
        repeated=retry.repeated if retry is not None else by_policy.repeated,
        said="retry" if retry is not None else by_policy.said,
    )


def of_backends(look: Reader, backends: Sequence[Backend]) -> Limits:
    """What TrafficPolicies say of requests for any of these backends."""
    found = [effective_for(look, backend) for backend in backends]
    retries = [
        (effective.settings.retry.repeated, effective)
        for effective in found
        if effective is not None and effective.settings.retry is not None
    ]
    most = max(retries, key=lambda one: one[0], default=None)
    return Limits(
        request=_most_patient(found, "request", _REQUEST),
        per_try=_most_patient(found, "per_try", _PER_TRY),
        repeated=most[0] if most is not None else 0,
        said=_wanted_by(most[1]) if most is not None else "",
    )


def effective_for(look: Reader, backend: Backend) -> Effective | None:
    """What TrafficPolicies say of a backend; None where they say nothing."""
    row = look(TRAFFIC, BackendKey(backend.service, backend.subset, backend.outside))
    return row.of_port(backend.port) if row is not None else None


def _most_patient(found: Iterable[Effective | None], name: str, path: str) -> Limit | None:
    limits: list[Limit] = []
    for effective in found:
        timeouts = effective.settings.timeouts if effective is not None else None
        text = getattr(timeouts, name) if timeouts is not None else None
        if effective is None or text is None:
            return None
        limits.append(Limit(text, f"{path} {effective.said_by(path)}"))
    endless = next((limit for limit in limits if not limit.milliseconds), None)
    return endless or max(limits, key=lambda limit: limit.milliseconds, default=None)


def _wanted_by(effective: Effective) -> str:
    """Who said how often something is repeated, or else anything of it; a `retry: {}` says nothing of its own."""
    found = [(at != _ATTEMPTS, f"{at} {policy}") for at, policy in effective.origins if at.startswith("retry.")]
    return min(found)[1] if found else "retry"


# -- what is told -----------------------------------------------------------------------------------------------------


def untimely_rules(look: Reader, key: ObjectKey, route: RequestRoute) -> str:
    """What a route is told of those of its rules that have a part in tries without time."""
    return " ".join(
        f"spec.rules[{number}]: tries may not end in time: {limits.wanting} "
        f"({', '.join(said for said in (_said(limits.request), _said(limits.per_try), limits.said) if said)})."
        for number, rule in enumerate(route.rules)
        if (rule.timeouts is not None or rule.retry is not None) and (limits := of_rule(look, key, rule)).wanting
    )


def _said(limit: Limit | None) -> str:
    return limit.said if limit is not None else ""


def untimely_targets(look: Reader, key: ObjectKey, policy: TrafficPolicy) -> Iterator[str]:
    """What a policy is told of those of its targets for which it has a part in tries without time."""
    if _TRIES.isdisjoint(path.removeprefix("overrides.") for path in paths_of(policy)):
        return
    for ref in policy.spec.target_refs:
        effective = _at(look, key.namespace, ref)
        settings: TrafficSettings | None = effective.settings if effective is not None else None
        if effective is None or settings is None or settings.timeouts is None:
            continue
        limits = Limits(
            request=_most_patient([effective], "request", _REQUEST),
            per_try=_most_patient([effective], "per_try", _PER_TRY),
            repeated=settings.retry.repeated if settings.retry is not None else 0,
        )
        if limits.wanting:
            said = ", ".join(f"{path} {by}" for path, by in effective.origins if path in _TRIES)
            at = f"{ref.kind} {key.namespace}/{ref.name}"
            at += f":{ref.section_name}" if ref.section_name is not None else ""
            yield f"Tries may not end in time: {limits.wanting} for {at} ({said})."


def _at(look: Reader, namespace: str, ref: PolicyTargetReference) -> Effective | None:
    """What holds for the target of a policy of a namespace."""
    if ref.kind == "Namespace":
        return merge(layers(look, namespace_levels(look, _KIND, namespace)), TrafficSettings)
    service, subset = ServiceKey(namespace, ref.name), ""
    if ref.kind == "ServiceSubset":
        found = look(SUBSETS, SubsetKey(namespace, ref.name))
        if found is None:
            return None
        service, subset = found.service, ref.name
    row = look(TRAFFIC, BackendKey(service, subset, ref.kind == "Backend"))
    there = look(SERVICES, service)
    if row is None or ref.section_name is None or there is None:
        return row.whole if row is not None else None
    ports = (port.port for port in there.ports if ref.section_name in (port.name, str(port.port)))
    return next((row.of_port(port) for port in ports), None)
