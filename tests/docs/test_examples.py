"""Every example that a page shows works as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fairlead.processes import Children
from tests.docs.examples import ExampleError, Scene, matches
from tests.docs.pages import ROOT, blocks, pages, title

_RUN = re.compile(r"^```(?:console|pycon|\w+ file=)", re.MULTILINE)
PLAYED = [page for page in pages() if _RUN.search(page.read_text())]


@pytest.fixture
def scene(tmp_path: Path, children: Children) -> Scene:
    folder = tmp_path / "page"
    folder.mkdir()
    return Scene(folder, children)


@pytest.mark.envoy
@pytest.mark.slow
@pytest.mark.parametrize("page", PLAYED, ids=title)
def test_the_examples_of_a_page_do_what_it_says(page: Path, scene: Scene) -> None:
    assert scene.play(page.read_text()) > 0


@pytest.mark.parametrize("page", pages(), ids=title)
def test_yaml_on_a_page_is_valid_for_fairlead_or_marked_otherwise(page: Path) -> None:
    """An object that a reader would copy must not be refused; fragments are marked `yaml fragment`."""
    from discovery.files.check import check

    for block in blocks(page.read_text()):
        if block.language == "yaml" and "fragment" not in block.words and "apiVersion:" in block.text:
            problems = check(block.text, f"{title(page)} (block in line {block.line})").problems
            assert not [str(problem) for problem in problems if problem.level == "error"]


def test_a_command_that_fails_fails_its_page(scene: Scene) -> None:
    with pytest.raises(ExampleError, match="ended with 1, not 0"):
        scene.play("```console\n$ false\n```\n")


def test_output_that_differs_fails_its_page(scene: Scene) -> None:
    with pytest.raises(ExampleError, match="it printed"):
        scene.play("```console\n$ echo one\ntwo\n```\n")


def test_ports_of_a_page_are_exchanged_and_shown_as_written(scene: Scene) -> None:
    page = (
        "```yaml file=a.yaml\nport: 10000\n```\n```console\n$ grep -c 10000 a.yaml\n1\n$ cat a.yaml\nport: 10000\n```\n"
    )
    assert scene.play(page) == 2
    assert "10000" not in (scene.folder / "a.yaml").read_text()


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a\n...\nd\n", "a\nb\nc\nd\n", True),
        ("a ... c\n", "a b c\n", True),
        ("a\n", "a\nb\n", False),
        ("", "anything\n", True),
        ("a.c\n", "abc\n", False),
        ("A    B\n1    2\n", "A   B\n1   2\n", True),
        ("a b\n", "a  b\n", False),
        ("  a\n", "    a\n", False),
    ],
)
def test_dots_stand_for_anything_and_nothing_else_does(expected: str, printed: str, same: bool) -> None:
    assert matches(expected, printed) is same


def test_the_readme_and_the_tutorials_are_played() -> None:
    played = {title(page) for page in PLAYED}
    assert {"README.md"} | {title(page) for page in (ROOT / "docs" / "tutorial").glob("*.md")} <= played
