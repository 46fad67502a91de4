"""`python -m benchmarks [ROW…]`: run the rows, print the table, keep it as JSON. `make bench` runs all."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from benchmarks.bench import SYSTEMS, Bench, Row
from benchmarks.cluster import NoClusterError
from benchmarks.ours import FAIRLEAD
from benchmarks.processes import HERE, MissingProgramError
from benchmarks.report import Result, table, write
from benchmarks.rows import ROWS
from benchmarks.size import SIZES


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen rows; returns 0, or 1 where a row could not be measured.

    A missed bar is no failure, nor is a row about a Kubernetes where there is none.
    """
    rows = {row.NAME: row for row in ROWS}
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Fairlead measured beside a peer.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"one of: {', '.join(rows)} (default: all)")
    parser.add_argument("--size", choices=list(SIZES), default="full", help="`small` runs a row within seconds")
    parser.add_argument("--only", choices=list(SYSTEMS), help="measure one of the two servers alone")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.rows) - set(rows))
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(rows)}")
    systems = {name: factory for name, factory in SYSTEMS.items() if options.only in (None, name)}
    if "ours" in systems and options.only is None and not FAIRLEAD.exists():
        print(f"{FAIRLEAD} is missing (`make venv` makes it): measuring the peer alone.", file=sys.stderr)
        del systems["ours"]
    bench = Bench(size=SIZES[options.size], systems=systems)
    results, failed = _run([rows[name] for name in options.rows] or list(ROWS), bench)
    print(table(results))
    missed = [result for result in results if result.verdict == "missed"]
    print(f"\n{len(missed)} bars missed, {sum(r.verdict == 'met' for r in results)} met; size {bench.size.name}.")
    path = HERE / "results" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{bench.size.name}.json"
    write(results, path)
    print(f"Kept in {path}", file=sys.stderr)
    return 1 if failed else 0


def _run(rows: Sequence[Row], bench: Bench) -> tuple[list[Result], bool]:
    """Run rows one after the other; one that fails is reported and does not take the others with it."""
    results: list[Result] = []
    failed = False
    for row in rows:
        started = time.monotonic()
        try:
            results += row.run(bench)
        except NoClusterError as reason:
            print(f"{row.NAME}: skipped: {reason}", file=sys.stderr)
            continue
        except MissingProgramError as problem:
            print(f"{row.NAME}: {problem}", file=sys.stderr)
            failed = True
        except Exception as problem:  # noqa: BLE001 - a run takes long; the other rows' numbers must survive
            print(f"{row.NAME}: {type(problem).__name__}: {problem}", file=sys.stderr)
            failed = True
        print(f"{row.NAME}: {time.monotonic() - started:.1f} s", file=sys.stderr)
    return results, failed


if __name__ == "__main__":
    sys.exit(main())
