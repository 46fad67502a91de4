from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.files.folder_state import EMPTY, MAX_BYTES, FolderState, Unreadable, changes, scan
from mesh.model import DECLARED, DeclaredKey


def subset(name: str, version: str = "v1") -> str:
    return (
        f"apiVersion: fairlead.dev/v1alpha1\nkind: ServiceSubset\nmetadata: {{name: {name}}}\n"
        f"spec: {{service: reviews, labels: {{version: {version}}}}}\n---\n"
    )


def look(state: FolderState, /, **files: str | bytes | Unreadable | None) -> FolderState:
    found = {
        f"{name}.yaml": content.encode() if isinstance(content, str) else content for name, content in files.items()
    }
    return scan(state, found)


def declared(state: FolderState) -> dict[str, tuple[str, str]]:
    """Per object its version and location."""
    return {
        key.name: (row.object.spec.labels["version"], row.location)  # type: ignore[attr-defined]
        for key, row in state.declared.items()
    }


def codes(state: FolderState) -> list[str]:
    return [f"{problem.file}:{problem.line} {problem.code}" for problem in state.problems]


def test_objects_are_declared_with_the_line_where_they_are() -> None:
    state = look(EMPTY, a=subset("x") + subset("y"), b=subset("z"))
    assert declared(state) == {"x": ("v1", "a.yaml:1"), "y": ("v1", "a.yaml:6"), "z": ("v1", "b.yaml:1")}
    assert [(change.table, change.key) for change in changes(EMPTY, state)] == [
        (DECLARED, DeclaredKey("ServiceSubset", "default", name, "files")) for name in "xyz"
    ]


def test_a_file_that_did_not_change_is_not_read_again_and_changes_nothing() -> None:
    before = look(EMPTY, a=subset("x"))
    after = look(before, a=None)
    assert after == before
    assert changes(before, after) == ()


def test_a_deleted_file_removes_its_objects() -> None:
    before = look(EMPTY, a=subset("x"), b=subset("y"))
    after = look(before, b=None)
    assert list(declared(after)) == ["y"]
    (change,) = changes(before, after)
    assert change.row is None


def test_an_object_taken_out_of_a_good_file_goes() -> None:
    assert list(declared(look(look(EMPTY, a=subset("x") + subset("y")), a=subset("y")))) == ["y"]


def test_a_file_that_cannot_be_read_to_its_end_changes_nothing() -> None:
    before = look(EMPTY, a=subset("x") + subset("y"))
    after = look(before, a=subset("x", "v2") + "kind: [")
    assert declared(after) == declared(before)
    assert codes(after) == ["a.yaml:6 InvalidYAML"]
    assert look(after, a=subset("x", "v2")).problems == ()


def test_an_unreadable_binary_or_oversized_file_changes_nothing() -> None:
    before = look(EMPTY, a=subset("x"))
    for content, line in ((Unreadable("gone", "fix"), 0), (b"a: 1\n\xff", 2), (b" " * (MAX_BYTES + 1), 0)):
        after = look(before, a=content)
        assert declared(after) == declared(before)
        assert codes(after) == [f"a.yaml:{line} UnreadableFile"]


def test_beside_an_invalid_object_valid_ones_count_and_nothing_goes_away() -> None:
    before = look(EMPTY, a=subset("x") + subset("y") + subset("z"))
    after = look(before, a=subset("x", "-") + subset("y", "v2") + subset("w"))
    assert {name: version for name, (version, _) in declared(after).items()} == {
        "x": "v1",
        "y": "v2",
        "z": "v1",
        "w": "v1",
    }
    assert codes(after) == ["a.yaml:4 InvalidFormat"]


def test_on_the_first_look_the_valid_objects_of_a_file_count() -> None:
    assert list(declared(look(EMPTY, a=subset("x", "-") + subset("y")))) == ["y"]


def test_of_one_object_in_two_files_the_first_by_path_stands_until_it_goes() -> None:
    state = look(EMPTY, b=subset("x", "v2"), a=subset("x", "v1"))
    assert declared(state) == {"x": ("v1", "a.yaml:1")}
    assert codes(state) == ["b.yaml:1 DuplicateObject"]
    state = look(state, b=None)
    assert declared(state) == {"x": ("v2", "b.yaml:1")}
    assert state.problems == ()


def test_a_byte_order_mark_is_no_content() -> None:
    assert list(declared(look(EMPTY, a=b"\xef\xbb\xbf" + subset("x").encode()))) == ["x"]


def test_a_folder_that_cannot_be_listed_keeps_what_its_files_declared() -> None:
    before = scan(EMPTY, {"d/a.yaml": subset("x").encode(), "e/a.yaml": subset("y").encode()})
    after = scan(before, {}, missing={"d": Unreadable("gone", "bring it back")})
    assert list(declared(after)) == ["x"]
    assert codes(after) == ["d:0 UnreadableFolder"]


CONTENT = st.sampled_from(
    [
        None,
        subset("x"),
        subset("x", "v2"),
        subset("y"),
        subset("x") + subset("y"),
        subset("x", "-") + subset("z"),
        "a: [",
    ]
)


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), CONTENT), max_size=6))
def test_changes_carry_one_state_to_the_next_and_good_files_alone_decide(looks: list[dict[str, str | None]]) -> None:
    state = EMPTY
    rows: dict[object, object] = {}
    good: dict[str, str] = {}
    for files in looks:
        after = look(state, **files)
        for change in changes(state, after):
            if change.row is None:
                del rows[change.key]
            else:
                rows[change.key] = change.row
        state = after
        good = {name: content for name in files if (content := files[name] or good.get(name))}
    assert rows == {DeclaredKey(*key, "files"): row for key, row in state.declared.items()}
    if not state.problems:
        assert state.declared == look(EMPTY, **good).declared
