"""Conditions of CEL: what Envoy takes and can be true goes through, everything else is told what is wrong with it."""

from __future__ import annotations

import pytest

from mesh.problems import Report
from mesh.validations.cel import check_condition
from tests.support.conditions import CONDITIONS


def problems(text: str) -> list[str]:
    report = Report()
    check_condition(text, "at", report)
    assert all(one.path == "at" and one.fix for one in report.problems)
    return [one.message for one in report.problems]


@pytest.mark.parametrize("text", CONDITIONS)
def test_a_condition_is_taken(text: str) -> None:
    assert problems(text) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 +", "the end is not expected there"),
        ("a b", "there is no 'a' to ask for"),
        ("response.code >= 500 response.code", "'response' is not expected there"),
        ("request.path = '/a'", "nothing of the language begins with '= '/a''"),
        ("request.path == '/a", "nothing of the language begins with ''/a'"),
        ("request.path == '\\0'", "nothing of the language begins with ''\\0''"),
        ("request.nope == 1", "'request' has no 'nope'"),
        ("foo.bar == 1", "there is no 'foo' to ask for"),
        ("request.headers.x == 'a'", "a header is asked for by its name in brackets"),
        ("request.path", "it is neither true nor false"),
        ("response.code + 1", "it is neither true nor false"),
        ("request.path && true", "what && and || join must be true or false"),
        ("true || response.code", "what && and || join must be true or false"),
        ("request.path ? true : false", "what stands before '?' must be true or false"),
        ("true ? true : 1", "it is neither true nor false"),
        ("!request.path", "'!' is for what is true or false, and '-' for numbers"),
        ("-true == true", "'!' is for what is true or false, and '-' for numbers"),
        ("1 == 1 == true", "it compares what is compared already"),
        ("string(response.code) == '5'", "there is no function 'string'"),
        ("request.path.lowerAscii() == 'a'", "there is no 'lowerAscii' that could be asked of it"),
        ("[1].exists(x, x == 1)", "there is no 'exists' that could be asked of it"),
        ("has(request)", "`has` is asked of an attribute"),
        ("has(request.headers['a'])", "`has` is not asked of what stands in brackets"),
        ("request.path.matches(request.host)", "a pattern must be written out"),
        ("request.path.matches('(a')", "it is not a regular expression of RE2: missing ): (a"),
        ("request.path.matches('a{1,60}')", "the regular expression compiles to"),
        ("99999999999999999999 == 1", "'99' is not expected there"),
        ("size(request.path, 1) == 1", "',' is not expected there"),
        ("(" * 20 + "true" + ")" * 20, "it is nested more than 8 deep"),
        ("[" * 500, "it is nested more than 8 deep"),
        ("true" + " && true" * 3 + " &&", "the end is not expected there"),
        ("request.in == 1", "'in' is not expected there"),
        ("", "the end is not expected there"),
        ("{}", "nothing of the language begins with '{}'"),
        ("true \x00", "nothing of the language begins with"),
    ],
)
def test_what_envoy_refuses_or_would_never_find_true_is_said(text: str, said: str) -> None:
    found = problems(text)
    assert len(found) == 1
    assert found[0].startswith(said)
