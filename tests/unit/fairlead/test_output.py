from __future__ import annotations

import os
import pty
import subprocess
import sys

from fairlead.output import folded, plural

NODE = "gateway~default~edge~a-host-with-quite-a-long-name-1"
PROSE = "no such file; name one that is there, or make it first with `fairlead serve`"


def test_prose_in_the_last_column_is_folded_and_names_are_not_broken() -> None:
    lines = folded([["NODE", "FIX"], [NODE, PROSE]], width=90)
    assert all(len(line) <= 90 for line in lines)
    assert len(lines) > 2
    assert lines[1].startswith(f"{NODE}  no such file")
    assert all(line.startswith(" " * len(NODE)) for line in lines[2:])


def test_where_nothing_can_be_folded_lines_are_long_and_whole() -> None:
    row = [NODE, "delta", "1.40.0", *["synced 1200"] * 6]
    assert folded([row], width=80) == ["  ".join(row)]
    assert folded([["NAME", "NODE"], ["a", NODE]], width=40)[1] == f"a     {NODE}"


def test_off_a_terminal_nothing_is_folded() -> None:
    assert folded([["a", PROSE * 3]], width=0) == [f"a  {PROSE * 3}"]


def test_on_a_terminal_the_head_is_bold_unless_no_color_is_set() -> None:
    script = f"from fairlead.output import print_table; print_table(('node', 'x'), [({NODE!r}, 'y' * 60)], empty='')"

    def on_terminal(**env: str) -> str:
        ours, theirs = pty.openpty()
        with os.fdopen(ours, "rb", buffering=0) as reader:
            environ = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | env
            subprocess.run([sys.executable, "-c", script], stdout=theirs, check=True, env=environ)
            os.close(theirs)
            return reader.read(10_000).decode()

    assert "\x1b[1mNODE" in on_terminal()
    plain = on_terminal(NO_COLOR="1", COLUMNS="80")
    assert "\x1b" not in plain
    assert NODE in plain


def test_one_is_singular() -> None:
    assert [plural(number, "error") for number in (0, 1, 2)] == ["0 errors", "1 error", "2 errors"]
