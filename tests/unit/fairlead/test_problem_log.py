"""What the log says of what is wrong in the sources."""

from __future__ import annotations

import logging

import pytest

from api.ports import SourceProblem
from fairlead.problem_log import ProblemLog
from fairlead.processes import Children
from mesh.problems import Problem
from tests.support.programs import start_serve


def problem(file: str, line: int, code: str = "UnknownField") -> SourceProblem:
    return SourceProblem(
        "files", Problem(code, "error", "spec.rule", "there is no such field", "write rules", file, line)
    )


class Heard:
    """A log on a clock that the test turns, and what it said."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "fairlead.problem_log")
        self._caplog = caplog
        self.now = 100.0
        self.log = ProblemLog(lambda: self.now)

    def after(self, *problems: SourceProblem) -> list[str]:
        """The lines that come of these being wrong now."""
        self._caplog.clear()
        self.log.note(problems)
        return [f"{record.levelname} {record.getMessage()}" for record in self._caplog.records]


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> Heard:
    return Heard(caplog)


def test_a_new_problem_is_one_warning_with_file_line_and_fix(heard: Heard) -> None:
    first, second = problem("a.yaml", 3), problem("b.yaml", 4)
    words = "error [UnknownField] spec.rule: there is no such field. Fix: write rules."
    assert heard.after(first) == [f"WARNING a.yaml:3: {words}"]
    assert heard.after(first) == []
    assert heard.after(second, first) == [f"WARNING b.yaml:4: {words}"]


def test_a_file_is_mended_once_nothing_is_wrong_with_it(heard: Heard) -> None:
    heard.after(problem("a.yaml", 3), problem("a.yaml", 9), problem("b.yaml", 1))
    assert heard.after(problem("a.yaml", 9), problem("b.yaml", 1)) == []
    assert heard.after(problem("b.yaml", 1)) == ["INFO a.yaml: mended"]
    assert heard.after() == ["INFO b.yaml: mended"]


def test_a_problem_that_comes_back_is_told_again(heard: Heard) -> None:
    told = heard.after(problem("a.yaml", 3))
    heard.after()
    assert heard.after(problem("a.yaml", 3)) == told


def test_a_problem_without_a_file_names_its_source(heard: Heard) -> None:
    unreadable = SourceProblem("store", Problem("unreadable", "error", "", "Gateway a/b: no", "delete it"))
    assert heard.after(unreadable) == ["WARNING store: error [unreadable] Gateway a/b: no. Fix: delete it."]
    assert heard.after() == ["INFO store: mended"]


def test_a_flood_of_problems_is_bounded_and_says_where_the_rest_is(heard: Heard) -> None:
    lines = heard.after(*(problem("a.yaml", line) for line in range(1, 1_001)))
    assert len(lines) == 21
    assert "`fairlead problems`" in lines[-1]
    assert heard.after(problem("b.yaml", 1)) == []
    heard.now += 10
    assert len(heard.after(problem("c.yaml", 1))) == 2


def test_a_running_server_says_it_of_a_file_at_the_start_and_later(children: Children) -> None:
    folder = children.folder / "config"
    folder.mkdir()
    good = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n"
    (folder / "early.yaml").write_text(good + "wrong: 1\n")
    serving = start_serve(children, "--files", str(folder), env={"FAIRLEAD_LOG_FORMAT": "json"})

    def says(*words: str) -> bool:
        lines = serving.child.log.read_text().splitlines()
        return any(all(word in line for word in words) for line in lines)

    assert says("warning", f"{folder}/early.yaml:4: error [UnknownField]", "Fix: ")
    (folder / "late.yaml").write_text("kind: [\n")
    children.wait_until(lambda: says("warning", f"{folder}/late.yaml:"), what="the second file to be told of")
    (folder / "early.yaml").write_text(good)
    children.wait_until(lambda: says("info", f"{folder}/early.yaml: mended"), what="the mending to be told of")
