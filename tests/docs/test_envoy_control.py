"""What envoy-control tests is tried here too, by tests that are there, or the table says what is missing and why."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.docs.pages import ROOT, is_test

TABLE: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load((ROOT / "tests/consul/envoy_control.yaml").read_text())
ROWS = {name: row for part in TABLE.values() for name, row in part.items()}
WITHOUT_TESTS = {"RateLimitTest", "OriginalDestinationTest", "EnvoyOriginalDstListenerTests"}


def test_every_test_that_a_row_names_is_there() -> None:
    named = {f"tests/{test}" for row in ROWS.values() for test in row.get("tests", ())}
    assert [test for test in sorted(named) if not is_test(test)] == []


@pytest.mark.parametrize("name", ROWS)
def test_a_row_says_what_it_is_about_and_has_tests_or_says_what_is_missing(name: str) -> None:
    row = ROWS[name]
    assert row.keys() <= {"about", "instead", "missing", "tests"}
    assert row["about"]
    assert row.get("tests") or row.get("missing")


def test_what_has_no_test_at_all_is_known() -> None:
    assert {name for name, row in ROWS.items() if not row.get("tests")} == WITHOUT_TESTS


def test_faults_of_consul_are_tried_with_real_agents() -> None:
    for name, row in TABLE["reliability"].items():
        assert any(test.startswith(("consul/", "envoy/")) for test in row["tests"]), name
