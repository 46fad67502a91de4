"""TrafficPolicy: nonsense is refused with its path, and what cannot do what was meant is warned of."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.validation import validate


def found(level: str, **spec: Any) -> list[str]:
    raw = {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "TrafficPolicy",
        "metadata": {"name": "x"},
        "spec": {"targetRefs": [{"kind": "Service", "name": "reviews"}], **spec},
    }
    return [f"{problem.code} {problem.path}" for problem in validate(raw).problems if problem.level == level]


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"targetRefs": []}, "TooFew spec.targetRefs"),
        ({"targetRefs": [{"kind": "Gateway", "name": "x"}]}, "UnsupportedKind spec.targetRefs[0]"),
        ({"failover": {"backendRefs": []}}, "TooFew spec.failover.backendRefs"),
        (
            {
                "targetRefs": [{"kind": "Namespace", "name": "default"}],
                "overrides": {"failover": {"backendRefs": [{"name": "b"}]}},
            },
            "NotAllowed spec.overrides.failover",
        ),
        (
            {"failover": {"backendRefs": [{"name": "b"}, {"name": "reviews"}]}},
            "NotAllowed spec.failover.backendRefs[1]",
        ),
        (
            {"failover": {"backendRefs": [{"name": "b"}, {"name": "b", "namespace": "default"}]}},
            "Duplicate spec.failover.backendRefs[1]",
        ),
        (
            {"targetRefs": [{"kind": "Namespace", "name": "default", "sectionName": "x"}]},
            "NotAllowed spec.targetRefs[0].sectionName",
        ),
        ({"targetRefs": [{"kind": "Namespace", "name": "other"}]}, "NotAllowed spec.targetRefs[0].name"),
        (
            {
                "targetRefs": [
                    {"kind": "Service", "name": "a"},
                    {"group": "fairlead.dev", "kind": "Service", "name": "a"},
                ]
            },
            "Duplicate spec.targetRefs[1]",
        ),
        (
            {"loadBalancer": {"type": "Random", "consistentHash": {"hashOn": [{"header": "x"}]}}},
            "NotAllowed spec.loadBalancer.consistentHash",
        ),
        ({"loadBalancer": {"type": "Random", "choiceCount": 3}}, "NotAllowed spec.loadBalancer.choiceCount"),
        ({"loadBalancer": {"type": "Random", "orca": {}}}, "NotAllowed spec.loadBalancer.orca"),
        (
            {"loadBalancer": {"type": "ClientSideWeightedRoundRobin", "endpointSelection": {"header": "x-tag"}}},
            "NotAllowed spec.loadBalancer.endpointSelection",
        ),
        (
            {"loadBalancer": {"endpointOverride": {"headers": ["x-to"]}, "endpointSelection": {"header": "x-tag"}}},
            "NotAllowed spec.loadBalancer.endpointSelection",
        ),
        ({"loadBalancer": {"orca": {"reportingPeriod": "0s"}}}, "OutOfRange spec.loadBalancer.orca.reportingPeriod"),
        (
            {"loadBalancer": {"type": "Maglev", "slowStart": {"window": "1s"}}},
            "NotAllowed spec.loadBalancer.slowStart",
        ),
        ({"loadBalancer": {"slowStart": {"window": "0s"}}}, "OutOfRange spec.loadBalancer.slowStart.window"),
        (
            {"loadBalancer": {"consistentHash": {"hashOn": [{"header": "x", "sourceIp": True}]}}},
            "InvalidCombination spec.loadBalancer.consistentHash.hashOn[0]",
        ),
        (
            {"loadBalancer": {"consistentHash": {"hashOn": [{"sourceIp": False}]}}},
            "InvalidCombination spec.loadBalancer.consistentHash.hashOn[0]",
        ),
        (
            {"loadBalancer": {"consistentHash": {"hashOn": [{"cookie": {"name": "a", "path": "/; HttpOnly"}}]}}},
            "InvalidFormat spec.loadBalancer.consistentHash.hashOn[0].cookie.path",
        ),
        (
            {"loadBalancer": {"consistentHash": {"hashOn": [{"cookie": {"name": "a", "ttl": "500ms"}}]}}},
            "OutOfRange spec.loadBalancer.consistentHash.hashOn[0].cookie.ttl",
        ),
        (
            {"loadBalancer": {"consistentHash": {"tableSize": 100}}},
            "OutOfRange spec.loadBalancer.consistentHash.tableSize",
        ),
        (
            {"loadBalancer": {"type": "RingHash", "consistentHash": {"tableSize": 101}}},
            "NotAllowed spec.loadBalancer.consistentHash.tableSize",
        ),
        (
            {"loadBalancer": {"type": "Maglev", "consistentHash": {"maximumRingSize": 101}}},
            "NotAllowed spec.loadBalancer.consistentHash.maximumRingSize",
        ),
        (
            {"loadBalancer": {"consistentHash": {"maximumRingSize": 101}}},
            "OutOfRange spec.loadBalancer.consistentHash.maximumRingSize",
        ),
        (
            {"loadBalancer": {"locality": {"weights": [{"zone": "a", "weight": 0}]}}},
            "OutOfRange spec.loadBalancer.locality.weights",
        ),
        ({"loadBalancer": {"locality": {"failover": [{}]}}}, "MissingField spec.loadBalancer.locality.failover[0]"),
        (
            {"loadBalancer": {"locality": {"failover": [{"zone": "a"}, {"zone": "a"}]}}},
            "Duplicate spec.loadBalancer.locality.failover[1]",
        ),
        ({"loadBalancer": {"panicThreshold": 101}}, "OutOfRange spec.loadBalancer.panicThreshold"),
        ({"circuitBreaker": {"maxRequests": -1}}, "OutOfRange spec.circuitBreaker.maxRequests"),
        (
            {"circuitBreaker": {"maxRetries": 1, "retryBudget": {}}},
            "InvalidCombination spec.circuitBreaker.maxRetries",
        ),
        ({"outlierDetection": {"interval": "0s"}}, "OutOfRange spec.outlierDetection.interval"),
        (
            {"outlierDetection": {"baseEjectionTime": "2m", "maxEjectionTime": "1m"}},
            "OutOfRange spec.outlierDetection.baseEjectionTime",
        ),
        (
            {"loadBalancer": {"type": "Maglev"}, "preconnect": {"predictivePercent": 200}},
            "NotAllowed spec.preconnect.predictivePercent",
        ),
        (
            {"healthChecks": [{"tcp": {}, "altPort": 1}, {"tcp": {}}]},
            "InvalidCombination spec.healthChecks[1].altPort",
        ),
        ({"healthChecks": [{}]}, "InvalidCombination spec.healthChecks[0]"),
        ({"healthChecks": [{"tcp": {}, "grpc": {}}]}, "InvalidCombination spec.healthChecks[0]"),
        ({"healthChecks": [{"tcp": {}, "interval": "0s"}]}, "OutOfRange spec.healthChecks[0].interval"),
        ({"healthChecks": [{"http": {"path": "x"}}]}, "InvalidFormat spec.healthChecks[0].http.path"),
        ({"healthChecks": [{"http": {"path": "/a b"}}]}, "InvalidFormat spec.healthChecks[0].http.path"),
        (
            {"healthChecks": [{"http": {"path": "/", "headers": {"Host": "a"}}}]},
            "NotAllowed spec.healthChecks[0].http.headers.Host",
        ),
        (
            {"healthChecks": [{"http": {"path": "/", "expectedStatuses": [{"start": 300, "end": 200}]}}]},
            "OutOfRange spec.healthChecks[0].http.expectedStatuses[0].start",
        ),
        (
            {"healthChecks": [{"http": {"path": "/", "method": "HEAD", "receive": ["ok"]}}]},
            "InvalidCombination spec.healthChecks[0].http.receive",
        ),
        (
            {"healthChecks": [{"http": {"path": "/", "receive": ["a" * 600, "b" * 600]}}]},
            "TooLong spec.healthChecks[0].http.receive",
        ),
        ({"timeouts": {"connect": "0s"}}, "OutOfRange spec.timeouts.connect"),
        ({"timeouts": {"request": "99999h"}}, "OutOfRange spec.timeouts.request"),
        ({"timeouts": {"request": "-1s"}}, "InvalidFormat spec.timeouts.request"),
        ({"timeouts": {"request": "1s", "perTry": "2s"}}, "OutOfRange spec.timeouts.perTry"),
        (
            {"timeouts": {"request": "2s", "perTry": "1s"}, "retry": {"attempts": 2}},
            "InvalidCombination spec.retry.attempts",
        ),
        ({"retry": {"attempts": 101}}, "OutOfRange spec.retry.attempts"),
        ({"retry": {"conditions": ["sometimes"]}}, "UnknownValue spec.retry.conditions[0]"),
        ({"retry": {"backoff": {"base": "0s"}}}, "OutOfRange spec.retry.backoff.base"),
        ({"retry": {"backoff": {"base": "2s", "max": "1s"}}}, "OutOfRange spec.retry.backoff.max"),
        ({"tcpKeepalive": {"time": "1500ms"}}, "OutOfRange spec.tcpKeepalive.time"),
        ({"tcpKeepalive": {"time": "32768s"}}, "OutOfRange spec.tcpKeepalive.time"),
        ({"tcpKeepalive": {"interval": "32768s"}}, "OutOfRange spec.tcpKeepalive.interval"),
        ({"tcpKeepalive": {"probes": 128}}, "OutOfRange spec.tcpKeepalive.probes"),
        ({"http": {"http2": {"onInvalidMessage": "Ignore"}}}, "UnknownValue spec.http.http2.onInvalidMessage"),
        ({"http": {"http2": {"initialStreamWindowSize": 1}}}, "OutOfRange spec.http.http2.initialStreamWindowSize"),
        ({"http": {"http2": {"keepaliveInterval": "0s"}}}, "OutOfRange spec.http.http2.keepaliveInterval"),
        ({"dns": {"refreshRate": "0s"}}, "OutOfRange spec.dns.refreshRate"),
        ({"dns": {"refreshRate": "1ms"}}, "OutOfRange spec.dns.refreshRate"),
        (
            {"outlierDetection": {"failurePercentageThreshold": 0}},
            "OutOfRange spec.outlierDetection.failurePercentageThreshold",
        ),
        (
            {"loadBalancer": {"type": "Maglev", "consistentHash": {"hashOn": [{"cookie": {"name": "a; b"}}]}}},
            "InvalidFormat spec.loadBalancer.consistentHash.hashOn[0].cookie.name",
        ),
        ({"overrides": {"timeouts": {"connect": "0s"}}}, "OutOfRange spec.overrides.timeouts.connect"),
        ({"overrides": {"targetRefs": []}}, "UnknownField spec.overrides.targetRefs"),
    ],
)
def test_nonsense_is_an_error_with_its_path(spec: dict[str, Any], problem: str) -> None:
    assert found("error", **spec) == [problem]


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({}, "MissingField spec"),
        ({"loadBalancer": {"type": "Maglev"}}, "MissingField spec.loadBalancer.consistentHash.hashOn"),
        ({"circuitBreaker": {"maxRequests": 0}}, "OutOfRange spec.circuitBreaker.maxRequests"),
        ({"circuitBreaker": {"maxPendingRequests": 0}}, "OutOfRange spec.circuitBreaker.maxPendingRequests"),
        ({"outlierDetection": {"interval": "5s", "consecutive5xx": 0}}, "NoEffect spec.outlierDetection"),
        (
            {"outlierDetection": {"consecutiveLocalOriginFailure": 1}},
            "MissingField spec.outlierDetection.consecutiveLocalOriginFailure",
        ),
        ({"healthChecks": [{"tcp": {"receive": ["x"]}}]}, "MissingField spec.healthChecks[0].tcp.send"),
        ({"retry": {"attempts": 0, "codes": [500]}}, "InvalidCombination spec.retry.attempts"),
        ({"http": {"http2": {"keepaliveTimeout": "1s"}}}, "MissingField spec.http.http2.keepaliveInterval"),
        (
            {"failover": {"backendRefs": [{"kind": "Backend", "name": "b"}]}},
            "UnsupportedKind spec.failover.backendRefs[0]",
        ),
        (
            {"failover": {"backendRefs": [{"group": "fairlead.dev", "kind": "Backend", "name": "b", "port": 80}]}},
            "NoEffect spec.failover.backendRefs[0].port",
        ),
        (
            {"failover": {"backendRefs": [{"name": "b"}]}, "retry": {"attemptsPerPriority": 1}},
            "NoEffect spec.retry.attemptsPerPriority",
        ),
        (
            {
                "failover": {"backendRefs": [{"name": "b"}]},
                "loadBalancer": {"endpointOverride": {"headers": ["x-endpoint"]}},
            },
            "NoEffect spec.loadBalancer.endpointOverride",
        ),
    ],
)
def test_what_will_not_do_what_was_meant_is_warned_of(spec: dict[str, Any], problem: str) -> None:
    assert found("error", **spec) == []
    assert found("warning", **spec) == [problem]
