"""What pages say of the tree is true: links lead somewhere, paths exist, the code map is whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, anchors, code_spans, links, pages, title

PACKAGES = ("mesh", "discovery", "xds", "sds", "policy", "api", "fairlead")
_PATH = re.compile(
    rf"^(?:{'|'.join((*PACKAGES, 'tests', 'benchmarks', 'docs', 'envoy-configs', 'changelog.d', 'scripts'))})/[\w./-]*$"
)
_FRAGMENT = re.compile(r"^\d+-[a-z0-9-]+\.(added|changed|fixed|removed|security)\.md$")


@pytest.mark.parametrize("page", pages(), ids=title)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    for target in links(page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        to = (page.parent / path).resolve() if path else page
        assert to.exists(), f"{title(page)}: {target}"
        if anchor and to.suffix == ".md":
            assert anchor in anchors(to.read_text()), f"{title(page)}: {target}"


@pytest.mark.parametrize("page", pages(), ids=title)
def test_paths_that_a_page_names_exist(page: Path) -> None:
    named = [span for span in code_spans(page.read_text()) if _PATH.match(span)]
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_architecture_names_every_package() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    folders = {
        path.parent.relative_to(ROOT).as_posix() + "/"
        for package in PACKAGES
        for path in (ROOT / package).rglob("__init__.py")
    }
    inner = {"mesh/validations/", "fairlead/demo/"}
    assert [folder for folder in sorted(folders - inner) if f"`{folder}`" not in text] == []


def test_the_way_of_an_endpoint_goes_through_files_that_import_each_other_s_packages() -> None:
    """The section's file names are in the order of the flow: sources, model, translation, distribution."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    section = text.partition("## One endpoint")[2].partition("\n## ")[0]
    files = [span for span in code_spans(section) if span.endswith(".py")]
    order = ["discovery/", "mesh/", "fairlead/", "xds/translate/", "xds/server/", "xds/protocol/"]
    first = [next(at for at, file in enumerate(files) if file.startswith(package)) for package in order]
    assert first == sorted(first)
    assert len(files) >= 12


def test_the_verbs_for_contributors_are_those_of_the_makefile() -> None:
    verbs = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)) - {"help"}
    listed = set(re.findall(r"^\| `make ([a-z-]+)`", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE))
    assert listed == verbs


def test_every_page_under_docs_is_listed() -> None:
    listed = {(ROOT / "docs" / target).resolve() for target in links((ROOT / "docs" / "README.md").read_text())}
    assert [
        title(page) for page in (ROOT / "docs").rglob("*.md") if page.name != "README.md" and page not in listed
    ] == []


def test_changelog_fragments_are_named_as_their_readme_says() -> None:
    names = [path.name for path in (ROOT / "changelog.d").iterdir() if path.name != "README.md"]
    assert [name for name in names if not _FRAGMENT.match(name)] == []


def test_the_verbs_that_contributing_lists_are_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    listed = set(re.findall(r"^\| `make ?([a-z-]*)` \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE))
    assert {"demo", "test", "lint", "docs"} <= listed
    assert listed - {""} <= targets
