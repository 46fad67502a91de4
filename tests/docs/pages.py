"""The project's Markdown pages, as far as the tests of the documents read them: fenced blocks, links, headings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(?P<info>[^`\n]*)$")
_COMMENT = re.compile(r"^<!-- (?P<word>[a-z]+): (?P<rest>.*?) -->$")
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
_CODE = re.compile(r"`[^`\n]+`")


class Block(NamedTuple):
    """A fenced block, or a comment that stands alone on its line (`language` is then `<!--`)."""

    line: int
    language: str
    words: dict[str, str]
    text: str


def is_test(name: str) -> bool:
    """Whether there is a test, `tests/…/test_x.py::test_y`."""
    file, _, function = name.partition("::")
    path = ROOT / file
    return path.is_file() and re.search(rf"^(?:async )?def {function}\(", path.read_text(), re.MULTILINE) is not None


def pages() -> list[Path]:
    """All pages, sorted: those at the root and everything under `docs/`."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "envoy-configs" / "README.md"])


def title(page: Path) -> str:
    """How a page is called in test ids and messages."""
    return page.relative_to(ROOT).as_posix()


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks and comments of a page, in order."""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        comment = _COMMENT.match(lines[at])
        if comment is not None:
            yield Block(at + 1, "<!--", {comment["word"]: comment["rest"]}, "")
        fence = _FENCE.match(lines[at])
        at += 1
        if fence is None:
            continue
        start = at
        while at < len(lines) and lines[at] != "```":
            at += 1
        assert at < len(lines), f"the block that begins in line {start} has no end"
        language, *words = shlex.split(fence["info"]) or [""]
        pairs = (word.partition("=") for word in words)
        content = "".join(f"{line}\n" for line in lines[start:at])
        yield Block(start, language, {name: value for name, _, value in pairs}, content)
        at += 1


def prose(text: str) -> str:
    """A page without its fenced blocks, lines kept in place."""
    out, inside = [], False
    for line in text.splitlines():
        fence = line.startswith("```")
        out.append("" if inside or fence else line)
        inside = inside != fence
    return "\n".join(out)


def links(text: str) -> list[str]:
    """The targets of all links and images."""
    return [match["target"] for match in _LINK.finditer(_CODE.sub("", prose(text)))]


def code_spans(text: str) -> list[str]:
    """What stands between backticks in the prose."""
    return [match[0][1:-1] for match in _CODE.finditer(prose(text))]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    found: set[str] = set()
    for line in prose(text).splitlines():
        if line.startswith("#"):
            words = line.lstrip("#").strip().lower()
            found.add(re.sub(r"[^\w\- ]", "", words).replace(" ", "-"))
    return found
