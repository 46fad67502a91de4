"""The dashboard and the alerts name metrics that a running Envoy and a running Fairlead have, with their labels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.processes import Children
from tests.envoy.test_bootstrap import HOST, serve_shop
from tests.support.programs import reached, start_envoy

pytestmark = pytest.mark.envoy

MONITORING = Path(__file__).parents[2] / "kind-cluster" / "monitoring"
_OF_PROMETHEUS = {"instance", "job"}  # what a scrape adds


def expressions() -> Iterator[str]:
    """All queries, of panels and of alerts."""
    dashboard: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]


def named(expression: str) -> tuple[set[str], set[str]]:
    """The metrics and the labels that a query names."""
    bare = re.sub(r'"[^"]*"', '""', re.sub(r"\[[^\]]*\]", "", expression))
    metrics = set(re.findall(r"\b((?:envoy|fairlead)_[a-z0-9_]+)\b(?!\s*(?:=|!|,|\)\s*\())", bare))
    labels = set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)\s*\"\"", bare))
    for listed in re.findall(r"\bby \(([^)]*)\)", bare):
        labels |= {label.strip() for label in listed.split(",")}
    return metrics - labels, labels - _OF_PROMETHEUS


def exported(text: str) -> tuple[set[str], set[str]]:
    """The metrics and the labels of an exposition."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    metrics = {re.split(r"[ {]", line, maxsplit=1)[0] for line in lines}
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):  # one that has counted nothing yet, too
        metrics |= {name, f"{name}_bucket"} if kind == "histogram" else {name}
    return metrics, {label for line in lines for label in re.findall(r'[{,]([a-z_]+)="', line)}


def test_dashboard_and_alerts_name_what_there_is(children: Children) -> None:
    serving, port = serve_shop(children, path={"type": "PathPrefix", "value": "/"})
    envoy = start_envoy(children, "gateway", "edge", xds=serving.xds)
    children.wait_until(lambda: reached(port, HOST), what="the route")
    asked = list(expressions())
    metrics, labels = set[str](), set[str]()
    for expression in asked:
        its_metrics, its_labels = named(expression)
        assert its_metrics, expression
        metrics |= its_metrics
        labels |= its_labels

    def missing() -> tuple[list[str], list[str]]:
        known, tagged = exported(envoy.get("/stats/prometheus"))
        ours, our_labels = exported(serving.client.request("GET", "/metrics").body.decode())
        return sorted(metrics - known - ours), sorted(labels - tagged - our_labels)

    # Envoy's histograms are there once it has merged them, which it does every few seconds.
    children.wait_until(lambda: not any("bucket" in name for name in missing()[0]), what="histograms", timeout=30)
    assert missing() == ([], [])
    assert len(metrics) > 20


def test_a_metric_that_is_not_there_would_be_found() -> None:
    metrics, labels = named(
        'sum by (le, kind) (rate(envoy_nothing_bucket{what="x", other!~"y"}[5m])) / (fairlead_no > 0)'
    )
    assert metrics == {"envoy_nothing_bucket", "fairlead_no"}
    assert labels == {"le", "kind", "what", "other"}


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            assert {"alert", "expr", "labels", "annotations"} <= set(rule), rule
            assert {"summary", "action"} <= set(rule["annotations"]), rule["alert"]
