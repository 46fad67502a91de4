"""Rollout: what could not work or would surprise, said with the path and the way out."""

from __future__ import annotations

import math

from mesh.kinds.duration import milliseconds
from mesh.kinds.references import GATEWAY_API, BackendObjectReference
from mesh.kinds.rollout import CohortMatch, PrometheusQuery, Rollout, RolloutAnalysis, RolloutSpec, Stickiness
from mesh.problems import Report
from mesh.validations.cookies import check_cookie_path, is_sound
from mesh.validations.regexes import check_regex

_SECOND = 1_000
_DAYS_30 = 30 * 24 * 3_600 * _SECOND


def check_rollout(rollout: Rollout, report: Report) -> None:
    """Judge a Rollout."""
    spec = rollout.spec
    if spec.target_ref.group != GATEWAY_API:
        message = f"{spec.target_ref.kind} is of group {GATEWAY_API}"
        report.error("NotAllowed", "spec.targetRef.group", message, "leave it out")
    if _same(spec.stable, spec.canary, rollout.metadata.namespace or "default"):
        message = "it names the same backend as `stable`, so that nothing would move"
        report.error("Duplicate", "spec.canary", message, "name the backend of the new version")
    _check_steps(spec, report)
    for number, match in enumerate(spec.cohort):
        _check_cohort(match, f"spec.cohort[{number}]", report)
    if spec.sticky is not None:
        _check_sticky(spec.sticky, "spec.sticky", report)
    if spec.analysis is not None:
        _check_analysis(spec.analysis, report)
        _check_time(spec, spec.analysis, report)


def _same(one: BackendObjectReference, other: BackendObjectReference, namespace: str) -> bool:
    places = ((ref.group, ref.kind, ref.name, ref.namespace or namespace) for ref in (one, other))
    return len(set(places)) == 1 and (one.port == other.port or None in (one.port, other.port))


def _check_steps(spec: RolloutSpec, report: Report) -> None:
    before = -1
    for number, step in enumerate(spec.steps):
        path = f"spec.steps[{number}]"
        if step.weight <= before:
            message = f"the canary has {before} % by then, and a step gives it more"
            report.error("OutOfRange", f"{path}.weight", message, f"write more than {before}, or remove the step")
        elif step.weight == 0 and not spec.cohort:
            message = "a step of weight 0 gives the canary nothing, without a cohort"
            report.error("NoEffect", f"{path}.weight", message, "write more than 0, or add `cohort`")
        before = max(before, step.weight)
        _check_duration(step.pause, f"{path}.pause", report, least=0)


def _check_cohort(match: CohortMatch, path: str, report: Report) -> None:
    if (match.header is None) == (match.cookie is None):
        message = "a cohort is known by a header or by a cookie"
        report.error("InvalidCombination", path, message, "write one of `header` and `cookie`")
    if match.header is not None and match.header.type == "RegularExpression":
        check_regex(match.header.value, f"{path}.header.value", report)
    if match.cookie is not None:
        value = match.cookie.value
        if not is_sound(value):
            message = "it has characters that the value of a cookie cannot have (RFC 6265)"
            report.error("InvalidFormat", f"{path}.cookie.value", message, "write letters, digits and '-'")


def _check_sticky(sticky: Stickiness, path: str, report: Report) -> None:
    if (sticky.header is None) == (sticky.cookie is None):
        message = "a client is known by a header or by a cookie"
        report.error("InvalidCombination", path, message, "write one of `header` and `cookie`")
    cookie = sticky.cookie
    if cookie is None:
        return
    if cookie.ttl is not None:
        _check_duration(cookie.ttl, f"{path}.cookie.ttl", report, least=0)
        if milliseconds(cookie.ttl) % _SECOND:
            message = "clients count it in whole seconds"
            report.error("OutOfRange", f"{path}.cookie.ttl", message, "write it as in `1h`, or 0s")
    check_cookie_path(cookie.path, f"{path}.cookie.path", report)


def _check_analysis(analysis: RolloutAnalysis, report: Report) -> None:
    path = "spec.analysis"
    _check_duration(analysis.interval, f"{path}.interval", report, least=_SECOND)
    _check_duration(analysis.deadline, f"{path}.deadline", report, least=_SECOND)
    if not analysis.counts and not analysis.queries:
        message = "it says nothing that the canary must satisfy"
        report.error("NoEffect", path, message, "add `successRate`, `latency` or `queries`, or remove it")
    if analysis.latency is not None:
        _check_duration(analysis.latency.max, f"{path}.latency.max", report, least=1)
    for number, query in enumerate(analysis.queries):
        _check_query(query, f"{path}.queries[{number}]", report)


def _check_time(spec: RolloutSpec, analysis: RolloutAnalysis, report: Report) -> None:
    interval = milliseconds(analysis.interval)
    for number, step in enumerate(spec.steps):
        if milliseconds(step.pause) + milliseconds(analysis.deadline) < interval:
            message = f"a check lasts {analysis.interval}, and steps[{number}] is taken back before one can end"
            fix = "make it at least `interval`, or the step's `pause` longer"
            report.error("InvalidCombination", "spec.analysis.deadline", message, fix)
            return


def _check_query(query: PrometheusQuery, path: str, report: Report) -> None:
    given = {"min": query.min, "max": query.max}
    if query.min is None and query.max is None:
        report.error("MissingField", path, "a query needs a bound", "add `min` or `max`")
    for name, bound in given.items():
        if bound is not None and not math.isfinite(bound):
            report.error("OutOfRange", f"{path}.{name}", "it is no number to compare with", "write a finite number")
    if query.min is not None and query.max is not None and query.min > query.max:
        message = f"no value is at least {query.min:g} and at most {query.max:g}"
        report.error("InvalidCombination", f"{path}.min", message, "write less than `max`")


def _check_duration(text: str, path: str, report: Report, *, least: int) -> None:
    if not least <= milliseconds(text) <= _DAYS_30:
        bound = f"{least // _SECOND}s" if least % _SECOND == 0 else f"{least}ms"
        message = f"it must be between {bound} and 720h"
        report.error("OutOfRange", path, message, "write it as in `5m`")
