"""TrafficPolicy: what Envoy would refuse or what cannot work, said with the path and the way out."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from mesh.backends import KINDS
from mesh.kinds.duration import milliseconds
from mesh.kinds.references import FAIRLEAD
from mesh.kinds.trafficpolicy import (
    CONSECUTIVE,
    FAILURE_PERCENTAGE,
    SUCCESS_RATE,
    CircuitBreaker,
    ConsistentHash,
    Failover,
    HashCookie,
    HashOn,
    HealthCheck,
    HTTPHealthCheck,
    LoadBalancer,
    LocalityName,
    LocalityPolicy,
    OutlierDetection,
    StatusRange,
    TrafficPolicy,
    TrafficRetry,
    TrafficSettings,
    TrafficTimeouts,
)
from mesh.problems import Report, camel, shown
from mesh.validations.cookies import check_cookie_path
from mesh.validations.durations import check_not_endless, check_positive, check_whole_seconds
from mesh.validations.policy import Targets, check_both, check_targets
from mesh.validations.tcp_keepalive import check_tcp_keepalive

TARGETS: Targets = MappingProxyType(
    {
        ("", "Service"): True,
        ("fairlead.dev", "Service"): True,
        ("fairlead.dev", "ServiceSubset"): True,
        ("fairlead.dev", "Backend"): False,
        ("", "Namespace"): False,
    }
)
_BODY_SEEN = 1024
_HASHING = ("RingHash", "Maglev")
_FORESEEING = ("RoundRobin", "Random")
_BY_REPORTS = "ClientSideWeightedRoundRobin"
_WITH_SLOW_START = ("LeastRequest", "RoundRobin", _BY_REPORTS)


def check_trafficpolicy(policy: TrafficPolicy, report: Report) -> None:
    """Judge a TrafficPolicy."""
    spec = policy.spec
    check_targets(spec.target_refs, TARGETS, policy.metadata, report)
    check_both(spec, TrafficSettings, _check_settings, report, example="timeouts")
    for settings, path in ((spec, "spec"), (spec.overrides, "spec.overrides")):
        if settings is not None and settings.failover is not None:
            _check_failover(policy, settings.failover, f"{path}.failover", report)


def _check_settings(settings: TrafficSettings, path: str, report: Report) -> None:
    if settings.load_balancer is not None:
        _check_load_balancer(settings.load_balancer, f"{path}.loadBalancer", report)
    if settings.circuit_breaker is not None:
        _check_circuit_breaker(settings.circuit_breaker, f"{path}.circuitBreaker", report)
    if settings.outlier_detection is not None:
        _check_outlier_detection(settings.outlier_detection, f"{path}.outlierDetection", report)
    _check_health_checks(settings.health_checks or (), f"{path}.healthChecks", report)
    if settings.timeouts is not None:
        _check_timeouts(settings.timeouts, f"{path}.timeouts", report)
    if settings.retry is not None:
        _check_retry(settings.retry, settings.timeouts, f"{path}.retry", report)
    if (
        settings.failover is not None
        and settings.retry is not None
        and settings.retry.attempts_per_priority is not None
    ):
        message = "between the backends of `failover` Envoy does not count tries"
        fix = "remove it; where outlierDetection finds that a backend fails, requests go on to the next"
        report.warning("NoEffect", f"{path}.retry.attemptsPerPriority", message, fix)
    balancer = settings.load_balancer
    if settings.failover is not None and balancer is not None and balancer.endpoint_override is not None:
        message = "where others can take over Envoy heeds no request's own choice of an endpoint"
        report.warning("NoEffect", f"{path}.loadBalancer.endpointOverride", message, "remove it, or `failover`")
    _check_preconnect(settings, f"{path}.preconnect.predictivePercent", report)
    check_tcp_keepalive(settings.tcp_keepalive, f"{path}.tcpKeepalive", report)
    http2 = settings.http.http2 if settings.http is not None else None
    if http2 is not None:
        check_positive(http2.keepalive_interval, f"{path}.http.http2.keepaliveInterval", report)
        check_positive(http2.keepalive_timeout, f"{path}.http.http2.keepaliveTimeout", report)
        if http2.keepalive_timeout is not None and http2.keepalive_interval is None:
            message = "without an interval nothing is asked that could time out"
            report.warning("MissingField", f"{path}.http.http2.keepaliveInterval", message, "add `keepaliveInterval`")
    if settings.dns is not None:
        _check_refresh(settings.dns.refresh_rate, f"{path}.dns.refreshRate", report)


def _check_failover(policy: TrafficPolicy, failover: Failover, path: str, report: Report) -> None:
    """Each takes over once, and from something else than itself."""
    targets = policy.spec.target_refs
    if any(target.kind == "Namespace" for target in targets):
        message = "all backends of a namespace cannot fail over to the same ones, which may be among them"
        report.error("NotAllowed", path, message, "write a policy for the Service that it is for")
    namespace = policy.metadata.namespace or "default"
    own = {(target.kind, namespace, target.name) for target in targets}
    seen = set()
    for number, ref in enumerate(failover.backend_refs):
        at = f"{path}.backendRefs[{number}]"
        if (ref.group, ref.kind) not in KINDS:
            known = f"no backend of kind '{shown(ref.kind)}' of the group '{shown(ref.group)}'"
            message = f"Fairlead knows {known}, which never takes over"
            fix = f"write a Service, or a ServiceSubset or Backend with group `{FAIRLEAD}`"
            report.warning("UnsupportedKind", at, message, fix)
        elif ref.kind == "Backend" and ref.port is not None:
            message = "the endpoints of a Backend have each their own port; this one has no effect"
            report.warning("NoEffect", f"{at}.port", message, "remove `port`")
        place = (ref.kind, ref.namespace or namespace, ref.name)
        if place in own and ref.port is None:
            report.error("NotAllowed", at, f"{ref.kind} {shown(ref.name)} would take over from itself", "name another")
        if (*place, ref.port) in seen:
            report.error("Duplicate", at, "the same backend is there twice", "remove one")
        seen.add((*place, ref.port))


def _check_refresh(rate: str | None, path: str, report: Report) -> None:
    check_positive(rate, path, report)
    if rate is not None and milliseconds(rate) == 1:
        report.error("OutOfRange", path, "Envoy wants more than 1ms", "write it as in `5s`, or leave it out")


def _check_preconnect(settings: TrafficSettings, path: str, report: Report) -> None:
    if settings.preconnect is None or settings.preconnect.predictive_percent is None:
        return
    kind = settings.load_balancer.type if settings.load_balancer is not None else None
    fix = f"write `loadBalancer: {{type: {_FORESEEING[0]}}}`, or `perEndpointPercent` instead"
    if kind is None:
        message = "LeastRequest, which is the default, does not know the next endpoint: nothing is opened ahead"
        report.warning("NoEffect", path, message, fix)
    elif kind not in _FORESEEING:
        report.error("NotAllowed", path, f"{kind} does not know the next endpoint: nothing is opened ahead", fix)


# -- load balancing ---------------------------------------------------------------------------------------------------


def _check_load_balancer(balancer: LoadBalancer, path: str, report: Report) -> None:
    kind = balancer.type
    if kind in _HASHING and (balancer.consistent_hash is None or balancer.consistent_hash.hash_on is None):
        message = f"{kind} hashes by nothing unless another policy says by what; all requests then go at random"
        report.warning(
            "MissingField", f"{path}.consistentHash.hashOn", message, "add `hashOn`, as `[{header: x-user}]`"
        )
    if balancer.consistent_hash is not None:
        if kind is not None and kind not in _HASHING:
            message = f"{kind} does not hash"
            fix = "remove it, or write `type: Maglev` or `type: RingHash`"
            report.error("NotAllowed", f"{path}.consistentHash", message, fix)
        _check_hash(balancer.consistent_hash, kind, f"{path}.consistentHash", report)
    if balancer.choice_count is not None and kind not in (None, "LeastRequest"):
        fix = "remove it, or write `type: LeastRequest`"
        report.error("NotAllowed", f"{path}.choiceCount", f"{kind} makes no choices", fix)
    if balancer.orca is not None:
        if kind not in (None, "ClientSideWeightedRoundRobin"):
            fix = "remove it, or write `type: ClientSideWeightedRoundRobin`"
            report.error("NotAllowed", f"{path}.orca", f"{kind} does not look at load reports", fix)
        for name in ("reporting_period", "blackout_period", "weight_expiration_period", "weight_update_period"):
            check_positive(getattr(balancer.orca, name), f"{path}.orca.{camel(name)}", report)
    if balancer.slow_start is not None:
        if kind is not None and kind not in _WITH_SLOW_START:
            fix = f"remove it, or write one of these types: {', '.join(_WITH_SLOW_START)}"
            report.error("NotAllowed", f"{path}.slowStart", f"{kind} has no slow start", fix)
        check_positive(balancer.slow_start.window, f"{path}.slowStart.window", report)
    _check_requests_choices(balancer, path, report)
    if balancer.locality is not None:
        _check_locality(balancer.locality, f"{path}.locality", report)


def _check_requests_choices(balancer: LoadBalancer, path: str, report: Report) -> None:
    """What requests choose by themselves: an endpoint, or some of them."""
    headers = balancer.endpoint_override.headers if balancer.endpoint_override is not None else ()
    names = [header.lower() for header in headers]
    for number, name in enumerate(names):
        if name in names[:number]:
            at = f"{path}.endpointOverride.headers[{number}]"
            report.error("Duplicate", at, "the header is there twice", "remove one")
    if balancer.endpoint_selection is None:
        return
    if balancer.type == _BY_REPORTS:
        fix = f"remove it, or write another type than {_BY_REPORTS}"
        message = f"{_BY_REPORTS} cannot balance over some of the endpoints"
        report.error("NotAllowed", f"{path}.endpointSelection", message, fix)
    if headers:
        message = "requests cannot choose one endpoint and some of them at once"
        report.error("NotAllowed", f"{path}.endpointSelection", message, "remove it, or `endpointOverride`")


def _check_hash(hashing: ConsistentHash, kind: str | None, path: str, report: Report) -> None:
    for number, item in enumerate(hashing.hash_on or ()):
        _check_hash_on(item, f"{path}.hashOn[{number}]", report)
    if hashing.table_size is not None:
        if kind == "RingHash":
            report.error("NotAllowed", f"{path}.tableSize", "RingHash has no table", "write `minimumRingSize` instead")
        elif not _is_prime(hashing.table_size):
            message = f"{hashing.table_size} is not a prime, as Maglev's table needs"
            fix = f"write {_next_prime(hashing.table_size)}"
            report.error("OutOfRange", f"{path}.tableSize", message, fix)
    low, high = hashing.minimum_ring_size, hashing.maximum_ring_size
    if kind == "Maglev" and (low is not None or high is not None):
        at = f"{path}.{'minimumRingSize' if low is not None else 'maximumRingSize'}"
        report.error("NotAllowed", at, "Maglev has no ring", "write `tableSize` instead")
    elif (low if low is not None else 1024) > (high if high is not None else 8_388_608):
        message = "the smallest ring is larger than the largest (without `minimumRingSize` it is 1024)"
        report.error("OutOfRange", f"{path}.maximumRingSize", message, "make it at least `minimumRingSize`")


def _check_hash_on(item: HashOn, path: str, report: Report) -> None:
    given = [item.header, item.cookie, item.query_parameter, item.source_ip or None]
    if len([value for value in given if value is not None]) != 1:
        message = "it must have exactly one of header, cookie, queryParameter and sourceIp"
        report.error("InvalidCombination", path, message, "write one item for each thing to hash by")
    if item.cookie is not None:
        _check_cookie(item.cookie, f"{path}.cookie", report)


def _check_cookie(cookie: HashCookie, path: str, report: Report) -> None:
    if cookie.ttl is not None and milliseconds(cookie.ttl):
        check_whole_seconds(cookie.ttl, f"{path}.ttl", report)
    if cookie.path is not None:
        check_cookie_path(cookie.path, f"{path}.path", report)


def _check_locality(locality: LocalityPolicy, path: str, report: Report) -> None:
    weights = locality.weights or ()
    if weights and not any(item.weight for item in weights):
        report.error("OutOfRange", f"{path}.weights", "all weights are 0, nobody gets traffic", "give one a weight")
    _check_places(weights, f"{path}.weights", report)
    _check_places(locality.failover or (), f"{path}.failover", report)


def _check_places(places: Sequence[LocalityName], path: str, report: Report) -> None:
    seen = set()
    for number, place in enumerate(places):
        name = (place.region, place.zone, place.sub_zone)
        if not any(name):
            report.error("MissingField", f"{path}[{number}]", "the place has no name", "write `region` or `zone`")
        elif name in seen:
            report.error("Duplicate", f"{path}[{number}]", "the same place is there twice", "remove one")
        seen.add(name)


# -- limits and health ------------------------------------------------------------------------------------------------


def _check_circuit_breaker(breaker: CircuitBreaker, path: str, report: Report) -> None:
    if breaker.max_retries is not None and breaker.retry_budget is not None:
        message = "Envoy ignores the number where there is a budget"
        report.error("InvalidCombination", f"{path}.maxRetries", message, "remove it or `retryBudget`")
    for name in ("max_connections", "max_pending_requests", "max_requests", "max_connections_per_endpoint"):
        if getattr(breaker, name) == 0:
            message = "at 0 nothing ever gets through, and everything is answered 503"
            report.warning("OutOfRange", f"{path}.{camel(name)}", message, "write at least 1, unless that is meant")


def _check_outlier_detection(outlier: OutlierDetection, path: str, report: Report) -> None:
    for name in ("interval", "base_ejection_time", "max_ejection_time"):
        check_positive(getattr(outlier, name), f"{path}.{camel(name)}", report)
    check_not_endless(outlier.max_ejection_time_jitter, f"{path}.maxEjectionTimeJitter", report)
    base, longest = outlier.base_ejection_time, outlier.max_ejection_time
    if base is not None and longest is not None and milliseconds(base) > milliseconds(longest):
        message = "the first ejection is longer than the longest"
        report.error("OutOfRange", f"{path}.baseEjectionTime", message, "make it at most `maxEjectionTime`")
    if outlier.consecutive_local_origin_failure and not outlier.split_external_local_origin_errors:
        message = "Envoy counts them apart only with splitExternalLocalOriginErrors"
        fix = "add `splitExternalLocalOriginErrors: true`"
        report.warning("MissingField", f"{path}.consecutiveLocalOriginFailure", message, fix)
    if not any(getattr(outlier, name) for name in (*CONSECUTIVE, *SUCCESS_RATE, *FAILURE_PERCENTAGE)):
        message = "it ejects nobody, unless another policy says for what"
        report.warning("NoEffect", path, message, "add for what, as `consecutive5xx: 5`")


def _check_health_checks(checks: Sequence[HealthCheck], path: str, report: Report) -> None:
    for number, check in enumerate(checks):
        _check_health_check(check, f"{path}[{number}]", report)
        if check.alt_port != checks[0].alt_port:
            message = "Envoy asks an endpoint at one port, whatever the check"
            fix = "write the same `altPort` in all checks, or in none"
            report.error("InvalidCombination", f"{path}[{number}].altPort", message, fix)


def _check_health_check(check: HealthCheck, path: str, report: Report) -> None:
    if len([kind for kind in (check.http, check.grpc, check.tcp) if kind is not None]) != 1:
        message = "a health check has exactly one of http, grpc and tcp"
        report.error("InvalidCombination", path, message, "write one; for another add a second health check")
    for name in ("interval", "timeout", "unhealthy_interval", "no_traffic_interval"):
        check_positive(getattr(check, name), f"{path}.{camel(name)}", report)
    check_not_endless(check.initial_jitter, f"{path}.initialJitter", report)
    if check.http is not None:
        _check_http(check.http, f"{path}.http", report)
    if check.tcp is not None and check.tcp.receive and check.tcp.send is None:
        message = "many servers say nothing until they are asked"
        report.warning("MissingField", f"{path}.tcp.send", message, "add `send`, unless the server speaks first")


def _check_http(check: HTTPHealthCheck, path: str, report: Report) -> None:
    if not check.path.startswith("/"):
        report.error("InvalidFormat", f"{path}.path", "a path begins with '/'", "write it as in `/healthz`")
    elif not check.path.isascii() or " " in check.path:
        message = "no request can have such a path, and every endpoint would be unhealthy"
        report.error("InvalidFormat", f"{path}.path", message, "write it with escapes, as in `/a%20b`")
    for name in check.headers:
        if name.lower() == "host":
            message = "Envoy does not let headers name the host"
            report.error("NotAllowed", f"{path}.headers.{name}", message, "write `host` of the check instead")
    if check.receive and check.method == "HEAD":
        message = "an answer to HEAD has no body"
        report.error("InvalidCombination", f"{path}.receive", message, "write `method: GET`, or remove it")
    if sum(len(text.encode()) for text in check.receive) > _BODY_SEEN:
        message = f"Envoy looks at the first {_BODY_SEEN:,} bytes of a body"
        report.error("TooLong", f"{path}.receive", message, "look for less")
    for number, statuses in enumerate(check.expected_statuses):
        check_status_range(statuses, f"{path}.expectedStatuses[{number}]", report)


def check_status_range(statuses: StatusRange, path: str, report: Report) -> None:
    """A range that begins before it ends."""
    if statuses.start > statuses.end:
        report.error("OutOfRange", f"{path}.start", "the range ends before it starts", "make it at most `end`")


# -- time -------------------------------------------------------------------------------------------------------------


def _check_timeouts(timeouts: TrafficTimeouts, path: str, report: Report) -> None:
    check_positive(timeouts.connect, f"{path}.connect", report)
    for name in ("request", "per_try", "idle", "stream", "connection_age"):
        check_not_endless(getattr(timeouts, name), f"{path}.{camel(name)}", report)
    request, one = timeouts.request, timeouts.per_try
    if request is not None and one is not None and 0 < milliseconds(request) < milliseconds(one):
        message = "one try may take longer than the whole request"
        report.error("OutOfRange", f"{path}.perTry", message, "make it at most `request`")


def _check_retry(retry: TrafficRetry, timeouts: TrafficTimeouts | None, path: str, report: Report) -> None:
    if retry.backoff is not None:
        check_positive(retry.backoff.base, f"{path}.backoff.base", report)
        check_not_endless(retry.backoff.max, f"{path}.backoff.max", report)
        longest = retry.backoff.max
        if longest is not None and milliseconds(longest) < milliseconds(retry.backoff.base):
            report.error("OutOfRange", f"{path}.backoff.max", "it is shorter than `base`", "make it at least `base`")
    request, one = (timeouts.request, timeouts.per_try) if timeouts is not None else (None, None)
    count = 1 + retry.repeated
    if request and one and count > 1:
        whole, tries = milliseconds(request), count * milliseconds(one)
        if 0 < whole < tries:
            message = f"{count} tries of {one} take {tries} ms, and the request ends after {request}"
            fix = "lower `attempts` or `timeouts.perTry`, or raise `timeouts.request`"
            report.error("InvalidCombination", f"{path}.attempts", message, fix)
    each = retry.attempts_per_priority
    if each is not None and each > retry.repeated:
        message = f"there are fewer repetitions than {each}, so that another priority is never tried"
        report.warning("NoEffect", f"{path}.attemptsPerPriority", message, "lower it, or raise `attempts`")
    if retry.attempts == 0 and (retry.conditions or retry.codes):
        message = "with 0 attempts nothing is sent again"
        report.warning("InvalidCombination", f"{path}.attempts", message, "remove the conditions, or write 1 or more")


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def _next_prime(number: int) -> int:
    while not _is_prime(number):
        number += 1
    return number
