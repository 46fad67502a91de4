"""The reference agrees with the program."""

from __future__ import annotations

import pytest

from tests.docs.pages import ROOT, prose
from tests.docs.reference import MAKERS, REFERENCE, commands, made, meanings, rules, rules_tested

_FIX = "run `python -m tests.docs.reference`"


@pytest.mark.parametrize("name", MAKERS)
def test_the_made_part_of_a_page_is_what_the_code_makes(name: str) -> None:
    page = REFERENCE / MAKERS[name][0]
    text = page.read_text()
    assert f"<!-- made: {name} -->" in text
    assert made(text) == text, f"{page} is old: {_FIX}"


def test_every_field_of_every_kind_has_its_words() -> None:
    words = meanings((REFERENCE / "kinds.md").read_text())
    assert [field for field, meaning in words.items() if not meaning.strip()] == []
    assert len(words) > 100


def test_every_command_of_the_help_has_a_module() -> None:
    for words in commands():
        assert (ROOT / "fairlead" / "commands" / f"{words[0]}.py").is_file()


def test_every_rule_that_a_test_names_stands_on_the_page() -> None:
    page = (REFERENCE / "xds-rules.md").read_text()
    assert [rule for rule in rules_tested() if f"| {rule} |" not in page] == []


def test_every_rule_on_the_page_has_a_test_that_carries_its_id() -> None:
    rows = [line.split("|") for line in (REFERENCE / "xds-rules.md").read_text().splitlines() if line.startswith("| ")]
    without = [row[1].strip() for row in rows if row[1].strip()[:1] in "SDT" and not (row[3] + row[4]).strip()]
    assert without == []


def test_the_page_tells_tests_with_a_real_envoy_from_the_others() -> None:
    rows = {row[1].strip(): row for row in (line.split("|") for line in rules("| T7 | words |").splitlines())}
    assert "t7_csds_tells_what_each_proxy_made" in rows["T7"][3]
    assert "t7_client_status_agrees_with_what_envoy_holds" in rows["T7"][4]


def test_exit_codes_on_the_page_are_those_of_the_program() -> None:
    from fairlead import errors

    page = prose((REFERENCE / "cli.md").read_text())
    for code in (errors.OK, errors.FAILED, errors.USAGE, errors.DIFFERS):
        assert f"\n| {code} |" in page
