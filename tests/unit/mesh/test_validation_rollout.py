"""Rollout: nonsense is refused with its path and the way out."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.validation import validate


def found(**spec: Any) -> list[str]:
    raw = {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": "x"},
        "spec": {
            "targetRef": {"kind": "HTTPRoute", "name": "reviews"},
            "stable": {"name": "reviews"},
            "canary": {"name": "reviews-v2"},
            "steps": [{"weight": 10}],
            **spec,
        },
    }
    problems = validate(raw).problems
    assert all(problem.fix and problem.message for problem in problems)
    return [f"{problem.code} {problem.path}" for problem in problems]


def asked(**analysis: Any) -> dict[str, Any]:
    return {"analysis": {"successRate": 99, **analysis}}


QUERY = "spec.analysis.queries[0]"


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"targetRef": {"kind": "TCPRoute", "name": "x"}}, "UnknownValue spec.targetRef.kind"),
        ({"targetRef": {"kind": "HTTPRoute", "name": "x", "group": "apps"}}, "NotAllowed spec.targetRef.group"),
        ({"canary": {"name": "reviews"}}, "Duplicate spec.canary"),
        ({"canary": {"name": "reviews", "port": 80}}, "Duplicate spec.canary"),
        ({"canary": {"name": "reviews", "namespace": "default"}}, "Duplicate spec.canary"),
        ({"steps": []}, "TooFew spec.steps"),
        ({"steps": [{"weight": 10}, {"weight": 10}]}, "OutOfRange spec.steps[1].weight"),
        ({"steps": [{"weight": 50}, {"weight": 10}]}, "OutOfRange spec.steps[1].weight"),
        ({"steps": [{"weight": 101}]}, "OutOfRange spec.steps[0].weight"),
        ({"steps": [{"weight": -1}]}, "OutOfRange spec.steps[0].weight"),
        ({"steps": [{"weight": 0}]}, "NoEffect spec.steps[0].weight"),
        ({"steps": [{"weight": 10, "pause": "721h"}]}, "OutOfRange spec.steps[0].pause"),
        ({"steps": [{"weight": 10, "pause": "soon"}]}, "InvalidFormat spec.steps[0].pause"),
        ({"cohort": [{}]}, "InvalidCombination spec.cohort[0]"),
        (
            {"cohort": [{"header": {"name": "a", "value": "b"}, "cookie": {"name": "a", "value": "b"}}]},
            "InvalidCombination spec.cohort[0]",
        ),
        (
            {"cohort": [{"header": {"name": "a", "value": "(", "type": "RegularExpression"}}]},
            "InvalidRegex spec.cohort[0].header.value",
        ),
        ({"cohort": [{"header": {"name": "a", "value": "b\n"}}]}, "ControlCharacter spec.cohort[0].header.value"),
        ({"cohort": [{"cookie": {"name": "a", "value": "b;c"}}]}, "InvalidFormat spec.cohort[0].cookie.value"),
        ({"cohort": [{"cookie": {"name": "a;", "value": "b"}}]}, "InvalidFormat spec.cohort[0].cookie.name"),
        ({"sticky": {}}, "InvalidCombination spec.sticky"),
        ({"sticky": {"header": "a", "cookie": {"name": "b"}}}, "InvalidCombination spec.sticky"),
        ({"sticky": {"header": "a b"}}, "InvalidFormat spec.sticky.header"),
        ({"sticky": {"cookie": {"name": "a=b"}}}, "InvalidFormat spec.sticky.cookie.name"),
        ({"sticky": {"cookie": {"name": "a", "ttl": "721h"}}}, "OutOfRange spec.sticky.cookie.ttl"),
        ({"sticky": {"cookie": {"name": "a", "ttl": "500ms"}}}, "OutOfRange spec.sticky.cookie.ttl"),
        ({"sticky": {"cookie": {"name": "a", "path": "x"}}}, "InvalidFormat spec.sticky.cookie.path"),
        ({"sticky": {"cookie": {"name": "a", "path": "/;x"}}}, "InvalidFormat spec.sticky.cookie.path"),
        ({"analysis": {}}, "NoEffect spec.analysis"),
        (asked(interval="0s"), "OutOfRange spec.analysis.interval"),
        (asked(deadline="0s"), "OutOfRange spec.analysis.deadline"),
        (asked(interval="2m", deadline="30s"), "InvalidCombination spec.analysis.deadline"),
        (asked(minRequests=0), "OutOfRange spec.analysis.minRequests"),
        (asked(successRate=101), "OutOfRange spec.analysis.successRate"),
        (asked(failures=0), "OutOfRange spec.analysis.failures"),
        (asked(latency={"max": "0s"}), "OutOfRange spec.analysis.latency.max"),
        (asked(latency={"max": "1s", "percentile": 100}), "OutOfRange spec.analysis.latency.percentile"),
        (asked(queries=[{"query": "up"}]), f"MissingField {QUERY}"),
        (asked(queries=[{"query": "up", "min": 2, "max": 1}]), f"InvalidCombination {QUERY}.min"),
        (asked(queries=[{"query": "up", "min": float("inf")}]), f"OutOfRange {QUERY}.min"),
        (asked(queries=[{"query": "up\ud800", "min": 1}]), f"InvalidFormat {QUERY}.query"),
        (asked(queries=[{"query": "u" * 4097, "min": 1}]), f"TooLong {QUERY}.query"),
    ],
)
def test_nonsense_is_refused_where_it_stands(spec: dict[str, Any], problem: str) -> None:
    assert problem in found(**spec)


def test_what_can_be_is_taken() -> None:
    assert found() == []
    assert (
        found(
            targetRef={"kind": "GRPCRoute", "name": "reviews", "sectionName": "main"},
            canary={"kind": "ServiceSubset", "group": "fairlead.dev", "name": "v2", "port": 80},
            version="build 7",
            paused=True,
            cohort=[{"header": {"name": "x-a", "value": "b"}}, {"cookie": {"name": "a", "value": "b=c"}}],
            steps=[{"weight": 0, "pause": "0s"}, {"weight": 50, "approval": True}, {"weight": 100, "pause": "24h"}],
            analysis={
                "interval": "1s",
                "latency": {"max": "250ms", "percentile": 99.9},
                "queries": [{"query": "sum(rate(errors_total[5m]))", "max": 0.1, "server": "http://127.0.0.1:9090"}],
            },
        )
        == []
    )
