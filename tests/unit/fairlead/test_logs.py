from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from fairlead.logs import configure

SECRET = "-----BEGIN PRIVATE KEY----- 0123456789abcdef"


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


def fail(token: str) -> None:
    raise RuntimeError(f"a token of {len(token)} characters")


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_shows_where_it_happened_and_not_the_values_of_variables(
    capsys: pytest.CaptureFixture[str], form: str
) -> None:
    configure(level="info", form=form)  # type: ignore[arg-type]
    try:
        fail(SECRET)
    except RuntimeError:
        logging.getLogger("fairlead.x").exception("it failed")
    said = capsys.readouterr().err
    assert "it failed" in said
    assert "test_logs.py" in said
    assert "a token of 44 characters" in said
    assert SECRET not in said


def test_json_is_one_line_per_record(capsys: pytest.CaptureFixture[str]) -> None:
    configure(level="info", form="json")
    logging.getLogger("fairlead.x").warning("one\ntwo %s", 3)
    [line] = capsys.readouterr().err.splitlines()
    record = json.loads(line)
    assert (record["event"], record["level"], record["logger"]) == ("one\ntwo 3", "warning", "fairlead.x")
