"""Results, bars and the table. Owns how a number becomes "met" or "missed"; must not measure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Bar:
    """What a number must stay under: `at_most` for ours alone, `ratio` for ours divided by the peer's."""

    at_most: float | None = None
    ratio: float | None = None

    def __str__(self) -> str:
        parts = []
        if self.at_most is not None:
            parts.append(f"≤ {number(self.at_most)}")
        if self.ratio is not None:
            parts.append(f"≤ {number(self.ratio)} x peer")
        return ", ".join(parts)


@dataclass(frozen=True)
class Reading:
    """One number of one server. Labels are the same for both servers, so that the numbers meet in one line."""

    label: str
    value: float
    unit: str
    bar: Bar = Bar()
    note: str = ""


@dataclass(frozen=True)
class Result:
    """One line of the table; a server that was not measured has None."""

    row: str
    label: str
    unit: str
    ours: float | None
    peer: float | None
    bar: Bar
    note: str

    @property
    def ratio(self) -> float | None:
        """Ours divided by the peer's, or None where that says nothing."""
        if self.ours is None or not self.peer:
            return None
        return self.ours / self.peer

    @property
    def verdict(self) -> str:
        """`met`, `missed`, or empty where there is no bar, or no number of ours to hold against it."""
        if self.ours is None or self.bar == Bar():
            return ""
        if self.bar.at_most is not None and self.ours > self.bar.at_most:
            return "missed"
        if self.bar.ratio is None:
            return "met"
        if self.peer is None:
            return ""
        return "met" if self.ours <= self.bar.ratio * self.peer else "missed"


def merge(row: str, ours: Iterable[Reading], peer: Iterable[Reading]) -> list[Result]:
    """Put the readings of the two servers side by side, by label, in the order in which they were taken."""
    left = {reading.label: reading for reading in ours}
    right = {reading.label: reading for reading in peer}
    results = []
    for label in [*left, *(label for label in right if label not in left)]:
        a, b = left.get(label), right.get(label)
        either = a or b
        assert either is not None
        notes = [f"{name}: {reading.note}" for name, reading in (("ours", a), ("peer", b)) if reading and reading.note]
        results.append(
            Result(
                row=row,
                label=label,
                unit=either.unit,
                ours=None if a is None else a.value,
                peer=None if b is None else b.value,
                bar=either.bar,
                note="; ".join(notes),
            )
        )
    return results


def number(value: float | None) -> str:
    """A number with three significant digits at least, thousands separated; `-` for None."""
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(results: Sequence[Result]) -> str:
    """The results as aligned text."""
    lines = [("row", "measure", "ours", "peer", "unit", "ratio", "bar", "", "notes")]
    lines += [
        (r.row, r.label, number(r.ours), number(r.peer), r.unit, number(r.ratio), str(r.bar), r.verdict, r.note)
        for r in results
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]) - 1)]
    numeric = {2, 3, 5}
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in numeric else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, [*widths, 0], strict=True))
        ).rstrip()
        for line in lines
    )


def write(results: Sequence[Result], path: Path) -> None:
    """Keep the results as JSON, one object per line of the table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{**asdict(r), "ratio": r.ratio, "verdict": r.verdict} for r in results]
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of a non-empty sequence."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]
