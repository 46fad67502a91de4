from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.files import yaml_documents
from discovery.files.yaml_documents import documents, line_of, lines


def only(text: str) -> Any:
    read = documents(text)
    assert read.problem is None, read.problem
    (document,) = read.documents
    return document.value


def problem(text: str, file: str = "") -> tuple[str, int]:
    found = documents(text, file).problem
    assert found is not None
    return found.code, found.line


def test_several_documents_with_the_lines_where_they_begin() -> None:
    read = documents("# comment\na: 1\n---\n# nothing\n---\n\nb: 2\n")
    assert [(document.value, document.line) for document in read.documents] == [({"a": 1}, 2), ({"b": 2}, 7)]


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n---\n", "null"])
def test_a_text_without_content_has_no_documents(text: str) -> None:
    assert documents(text).documents == ()
    assert documents(text).problem is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes", True),
        ("off", False),
        ("~", None),
        ("", None),
        ("80", 80),
        ("-1", -1),
        ("0x1F", 31),
        ("0o17", 15),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("v1", "v1"),
        ("12:30", "12:30"),
        ("2026-01-31", "2026-01-31"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("010", "010"),
        ("1_000", "1_000"),
        ("1.2.3", "1.2.3"),
        (".inf", ".inf"),
        ("=", "="),
        ("9" * 5_000, "9" * 5_000),
        ("'yes'", "yes"),
        ('"80"', "80"),
        ("!!str 80", "80"),
        ("!!int 80", 80),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_scalars_mean_what_kubernetes_takes_them_for(text: str, expected: Any) -> None:
    value = only(f"a: {text}\n")["a"]
    assert value == expected
    assert type(value) is type(expected)


def test_anchors_aliases_and_merge_keys() -> None:
    text = "base: &b {x: 1, y: 2}\nuse: {<<: *b, y: 3}\nagain: *b\nmany:\n  <<: [*b, {z: 4}]\n"
    base = {"x": 1, "y": 2}
    assert only(text) == {"base": base, "use": {"y": 3, "x": 1}, "again": base, "many": {"x": 1, "y": 2, "z": 4}}


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "DuplicateKey", 3),
        ("a:\n  b: 1\n  'b': 2\n", "DuplicateKey", 3),
        ("a: [1\n", "InvalidYAML", 1),
        ("a: b: c\n", "InvalidYAML", 1),
        ("a:\n\t- b\n", "InvalidYAML", 2),
        ("a: *nowhere\n", "UnknownAnchor", 1),
        ("a: &x [*x]\n", "UnknownAnchor", 1),
        ("? [a]\n: b\n", "InvalidYAML", 1),
        ("a: !!python/object:os.system x\n", "InvalidYAML", 1),
        ("a: !local x\n", "InvalidYAML", 1),
        ("a: !!map [1]\n", "InvalidYAML", 1),
        ("a: !!int x\n", "InvalidYAML", 1),
        ("<<: 1\n", "InvalidYAML", 1),
        ("a: 1\n\x00b: 2\n", "InvalidYAML", 2),
        ("[" * 65, "TooDeep", 1),
        ("[" * 100_000, "TooDeep", 1),
        ("{a: " * 100_000, "TooDeep", 1),
    ],
)
def test_what_is_not_plain_yaml_is_refused_with_its_line(text: str, code: str, line: int) -> None:
    assert problem(text) == (code, line)


def test_a_bomb_of_aliases_is_refused_before_it_grows() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 12):
        bomb += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"
    assert problem(bomb) == ("TooLarge", 6)


def test_what_comes_before_a_fault_is_kept() -> None:
    read = documents("a: 1\n---\nb: [\n")
    assert [document.value for document in read.documents] == [{"a": 1}]
    assert read.problem is not None


def test_documents_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_documents, "MAX_DOCUMENTS", 3)
    assert documents("a: 1\n---\na: 1\n---\na: 1\n").problem is None
    assert problem("a: 1\n---\na: 1\n---\na: 1\n---\na: 1\n") == ("TooLarge", 8)


def test_values_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_documents, "MAX_EVENTS", 100)
    assert problem("- a\n" * 200) == ("TooLarge", 98)


def test_every_path_has_its_line_and_a_missing_one_that_of_its_surroundings() -> None:
    text = (
        "spec:\n  rules:\n  - matches:\n    - path:\n        value: /\n    name: a\n"
        "  - {name: b}\n  labels:\n    a.b/c: d\n"
    )
    (paths,) = lines(text)
    assert paths["spec.rules[0].matches[0].path.value"] == 5
    assert paths["spec.rules[1]"] == 7
    assert paths['spec.labels["a.b/c"]'] == 9
    assert line_of("spec.rules[0].matches[0].path.type", paths, 1) == 4
    assert line_of('spec.labels["x.y/z"]', paths, 1) == 8
    assert line_of("metadata.name", paths, 1) == 1


def test_json_is_read_as_json() -> None:
    read = documents('{"a": "\\ud83d\\ude00", "b": "\\/"}', "x.json")
    assert [document.value for document in read.documents] == [{"a": "😀", "b": "/"}]
    assert documents("", "x.json").documents == ()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"a": 1,\n}', 2),
        ('{"a": NaN}', 0),
        ('{"a": "\\ud800"}', 0),
        ('{"a": ' + "9" * 5_000 + "}", 0),
        ("a: 1", 1),
    ],
)
def test_what_is_not_json_is_refused(text: str, line: int) -> None:
    assert problem(text, "x.json") == ("InvalidJSON", line)


@pytest.mark.parametrize("file", ["x.json", "x.yaml"])
@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ('{"a": 1,\n "a": 2}', "a", 2),
        ('{"a": 1, "": 1,\n "": 2}', '[""]', 2),
        ('{"items": [{"b": []},\n {"c": {"d,}]": "\\"{[",\n "e": {"x.y": 1,\n"x.y": 2}}}]}', 'items[1].c.e["x.y"]', 4),
        ('{"a": {"b": 1}, "c": [1, [2], {}],\n "c": 3}', "c", 2),
    ],
)
def test_a_key_that_is_there_twice_is_told_with_path_and_line(text: str, path: str, line: int, file: str) -> None:
    found = documents(text, file).problem
    assert found is not None
    assert (found.code, found.path, found.line, found.fix) == ("DuplicateKey", path, line, "keep one of them")


@pytest.mark.parametrize("file", ["x.json", "x.yaml"])
def test_what_is_nested_too_deep_is_told_with_path_and_line(file: str) -> None:
    found = documents('{"a":\n' + "[" * 100_000, file).problem
    assert found is not None
    assert (found.code, found.path, found.line) == ("TooDeep", "a" + "[0]" * 63, 2)


def test_keys_that_json_escapes_are_the_same_key() -> None:
    found = documents('{"\\/a": 1,\n"\\u002fa": {"b": 1}}', "x.json").problem
    assert found is not None
    assert (found.code, found.path, found.line) == ("DuplicateKey", '["/a"]', 2)


@settings(deadline=None)
@given(st.text() | st.text(alphabet="ab:-[]{}&*!|>'\"#%@`,? \n\t<~0123"))
def test_no_text_raises(text: str) -> None:
    read = documents(text)
    assert read.problem is None or read.problem.message
    found = lines(text)
    assert len(found) == len(read.documents)
    documents(text, "x.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(value=JSON.filter(lambda value: value is not None))
def test_what_is_written_as_yaml_or_json_is_read_back(value: Any) -> None:
    assert only(yaml.safe_dump(value)) == value
    assert documents(json.dumps(value), "x.json").documents[0].value == value


@pytest.mark.parametrize(
    ("text", "line", "begun"),
    [
        ("a: [1,", 1, ""),
        ("a: [1,\n", 1, ""),
        ("a: 1\n---\nb: [1,\n", 3, ""),
        ("x: 1\na: [1,\nb: 2\n", 3, "(begun in line 2)"),
    ],
)
def test_an_unended_list_is_told_with_lines_that_the_text_has(text: str, line: int, begun: str) -> None:
    problem = documents(text, "x.yaml").problem
    assert problem is not None
    assert problem.line == line
    assert ("begun in line" in problem.message) == bool(begun)
    assert begun in problem.message
