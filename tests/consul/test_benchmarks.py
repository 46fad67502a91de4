"""The benchmarks' rows about Consul run, at the smallest size."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from benchmarks.bench import SYSTEMS, Bench, Row
from benchmarks.rows import IN_CONSUL
from benchmarks.size import SMALL


@pytest.mark.timeout(900)  # the first build of the Go programs takes minutes on a busy machine
@pytest.mark.skipif(shutil.which("go") is None, reason="the stopwatch is a Go program, and there is no `go`")
@pytest.mark.parametrize("row", IN_CONSUL, ids=lambda row: row.NAME)
def test_a_row_measures_fairlead_at_the_smallest_size(row: Row, consul: Path) -> None:
    results = row.run(Bench(size=SMALL, systems={"ours": SYSTEMS["ours"]}))
    assert results
    assert all(result.ours is not None and math.isfinite(result.ours) for result in results)
