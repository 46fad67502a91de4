from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.bench import SYSTEMS, Bench, Row
from benchmarks.report import Result
from benchmarks.rows import ANYWHERE, IN_CLUSTER, ROWS, derivation, renewals
from benchmarks.size import SMALL

needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="the peer is a Go program, and there is no `go`")
# The first build of the Go programs takes minutes on a busy machine.
patient = pytest.mark.timeout(900)


def measured(row: Row, system: str) -> list[Result]:
    return row.run(Bench(size=SMALL, systems={system: SYSTEMS[system]}))


@pytest.mark.slow
@patient
@needs_go
@pytest.mark.parametrize(
    "row", [row for row in ANYWHERE if row.NAME not in {derivation.NAME, renewals.NAME}], ids=lambda row: row.NAME
)
def test_a_row_measures_the_peer_at_the_smallest_size(row: Row) -> None:
    results = measured(row, "peer")
    assert results
    for result in results:
        assert result.row == row.NAME
        assert result.ours is None
        assert result.peer is not None
        assert math.isfinite(result.peer)


@pytest.mark.slow
@patient
@needs_go
@pytest.mark.parametrize("row", ANYWHERE, ids=lambda row: row.NAME)
def test_a_row_measures_fairlead_at_the_smallest_size(row: Row) -> None:
    results = measured(row, "ours")
    assert results
    for result in results:
        assert result.peer is None
        assert result.ours is not None
        assert math.isfinite(result.ours)


def test_deriving_is_measured_in_this_process() -> None:
    results = derivation.run(Bench(size=SMALL, systems={"ours": SYSTEMS["ours"]}))
    assert all(result.ours is not None and result.ours > 0 for result in results)


@pytest.mark.parametrize("row", IN_CLUSTER, ids=lambda row: row.NAME)
def test_a_row_about_a_kubernetes_is_skipped_with_a_reason_where_there_is_none(
    row: Row, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBE_NODE_HOME", str(tmp_path))  # no node was ever built there
    monkeypatch.setattr("benchmarks.__main__.HERE", tmp_path)
    assert main([row.NAME, "--size", "small", "--only", "ours"]) == 0
    assert f"{row.NAME}: skipped: " in capsys.readouterr().err


def test_a_row_about_a_kubernetes_measures_no_peer() -> None:
    bench = Bench(size=SMALL, systems={"peer": SYSTEMS["peer"]})
    assert [row.run(bench) for row in IN_CLUSTER] == [[]] * len(IN_CLUSTER)


def test_every_row_has_a_name_of_its_own() -> None:
    assert len({row.NAME for row in ROWS}) == len(ROWS)


def test_an_unknown_row_is_a_usage_error_that_lists_the_rows(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["no-such-row"])
    assert caught.value.code == 2
    assert "endpoint-fanout" in capsys.readouterr().err
