"""Every behaviour that Gateway API's conformance suite checks is tried here too, by tests that are there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.pages import ROOT, is_test

TABLES = ROOT / "tests" / "conformance"
BEHAVIOURS: dict[str, dict[str, Any]] = yaml.safe_load((TABLES / "behaviours.yaml").read_text())
CONSTRUCTS: dict[str, list[str]] = yaml.safe_load((TABLES / "constructs.yaml").read_text())
NAMES = [line.split() for line in (TABLES / "suite-tests.txt").read_text().splitlines()]
# What translation sees nothing of: what others wrote into statuses, and what only a platform can assign.
WITHOUT_GOLDEN = {
    "BackendTLSPolicyPreserveForeignStatus",
    "GatewayOptionalAddressValue",
    "GatewayPreserveForeignConditions",
    "HTTPRoutePreserveForeignStatus",
}


def _where(test: str) -> tuple[Path, str]:
    """The file and the function of a test."""
    file, _, name = test.partition("::")
    return ROOT / (file if "/" in file else f"tests/envoy/{file}"), name


def _there(test: str) -> bool:
    path, name = _where(test)
    return is_test(f"{path.relative_to(ROOT)}::{name}")


def test_every_test_of_the_suite_has_its_row_and_nothing_else_has() -> None:
    assert list(BEHAVIOURS) == sorted(name for _, name in NAMES)
    newer = [name for name, row in BEHAVIOURS.items() if row.get("since") == "v1.7"]
    assert newer == sorted(name for version, name in NAMES if version == "v1.7.0")


def test_the_names_are_those_of_the_suite_where_it_is_on_this_machine() -> None:
    if shutil.which("go") is None:
        pytest.skip("there is no Go here, and so no module of the suite")
    cache = subprocess.run(["go", "env", "GOMODCACHE"], capture_output=True, text=True, check=True).stdout.strip()
    folder = Path(cache) / "sigs.k8s.io/gateway-api/conformance@v1.6.3/tests"
    if not folder.is_dir():
        pytest.skip("the suite's module has not been downloaded")
    sources = "".join(path.read_text() for path in folder.rglob("*.go"))
    assert sorted(re.findall(r'ShortName:\s+"(\w+)"', sources)) == sorted(n for v, n in NAMES if v == "v1.6.3")


def test_every_case_and_test_that_a_row_names_is_there() -> None:
    cases = {case for row in BEHAVIOURS.values() for case in row.get("golden", ())}
    assert [case for case in sorted(cases) if not (ROOT / "tests" / "golden" / case / "in.yaml").is_file()] == []
    tests = {test for row in BEHAVIOURS.values() for test in (*row.get("envoy", ()), *row.get("also", ()))}
    tests |= {test for named in CONSTRUCTS.values() for test in named}
    assert [test for test in sorted(tests) if not _there(test)] == []


def test_every_behaviour_of_gateways_has_a_golden_case() -> None:
    lacking = {name for name, row in BEHAVIOURS.items() if not row.get("golden") and not name.startswith("Mesh")}
    assert lacking == WITHOUT_GOLDEN
    assert all(BEHAVIOURS[name]["also"] for name in WITHOUT_GOLDEN)


def test_what_is_named_as_tried_at_an_envoy_is() -> None:
    tests = {test for row in BEHAVIOURS.values() for test in row.get("envoy", ())}
    tests |= {test for named in CONSTRUCTS.values() for test in named}
    files = {_where(test)[0] for test in tests}
    assert [path.name for path in sorted(files) if "pytest.mark.envoy" not in path.read_text()] == []
    assert all(CONSTRUCTS.values())


def test_a_golden_case_has_the_objects_that_its_behaviours_are_about() -> None:
    kinds = {"HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute", "ListenerSet", "BackendTLSPolicy"}
    for name, row in BEHAVIOURS.items():
        asked = next((kind for kind in kinds if name.startswith(kind)), "Gateway")
        text = "".join((ROOT / "tests" / "golden" / case / "in.yaml").read_text() for case in row.get("golden", ()))
        if text and not name.startswith(("Mesh", "GRPCExact")):
            assert f"kind: {asked}" in text, f"{name} {json.dumps(row)}"
