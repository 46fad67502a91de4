from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.report import Bar, Reading, Result, merge, number, percentile, table, write

NO_BAR = Bar()


def result(*, ours: float | None = 1.0, peer: float | None = None, bar: Bar = NO_BAR) -> Result:
    return Result(row="r", label="l", unit="ms", ours=ours, peer=peer, bar=bar, note="")


@pytest.mark.parametrize(
    ("ours", "peer", "bar", "verdict"),
    [
        (5.0, None, Bar(at_most=5), "met"),
        (5.1, None, Bar(at_most=5), "missed"),
        (5.0, 10.0, Bar(at_most=5, ratio=0.5), "met"),
        (5.0, 9.0, Bar(at_most=5, ratio=0.5), "missed"),
        (6.0, None, Bar(at_most=5, ratio=0.5), "missed"),
        (5.0, None, Bar(at_most=5, ratio=0.5), ""),
        (None, 1.0, Bar(at_most=5), ""),
        (5.0, 1.0, Bar(), ""),
        (0.0, 0.0, Bar(at_most=0), "met"),
    ],
)
def test_a_bar_is_met_when_every_part_of_it_holds(
    ours: float | None, peer: float | None, bar: Bar, verdict: str
) -> None:
    assert result(ours=ours, peer=peer, bar=bar).verdict == verdict


def test_there_is_no_ratio_to_a_peer_that_was_not_measured_or_used_nothing() -> None:
    assert result(ours=1, peer=None).ratio is None
    assert result(ours=1, peer=0).ratio is None
    assert result(ours=1, peer=4).ratio == 0.25


def test_readings_meet_by_label_and_keep_their_order() -> None:
    merged = merge(
        "row",
        [Reading("a", 1, "ms", Bar(at_most=2)), Reading("b", 2, "ms", note="mine")],
        [Reading("b", 3, "ms", note="theirs"), Reading("c", 4, "s")],
    )
    assert [(r.label, r.ours, r.peer) for r in merged] == [("a", 1, None), ("b", 2, 3), ("c", None, 4)]
    assert merged[0].verdict == "met"
    assert merged[1].note == "ours: mine; peer: theirs"


def test_the_table_has_a_line_for_each_result_with_its_verdict() -> None:
    lines = table([result(ours=2500, peer=5000, bar=Bar(ratio=0.5))]).splitlines()
    assert len(lines) == 2
    assert lines[1].split() == ["r", "l", "2,500", "5,000", "ms", "0.5", "≤", "0.5", "x", "peer", "met"]


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (0, "0"), (0.01234, "0.0123"), (12345.6, "12,346")])
def test_numbers_have_three_digits_or_whole_thousands(value: float | None, text: str) -> None:
    assert number(value) == text


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert (percentile(values, 50), percentile(values, 99), percentile([7.0], 99)) == (50, 99, 7)


def test_results_are_kept_as_json(tmp_path: Path) -> None:
    write([result(ours=1, peer=2, bar=Bar(at_most=3))], tmp_path / "new" / "r.json")
    (kept,) = json.loads((tmp_path / "new" / "r.json").read_text())
    assert (kept["ours"], kept["peer"], kept["ratio"], kept["verdict"]) == (1, 2, 0.5, "met")
