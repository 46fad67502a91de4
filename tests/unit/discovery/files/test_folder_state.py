from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.files.folder_state import (
    EMPTY,
    EMPTY_SECONDS,
    MAX_BYTES,
    SETTLE_SECONDS,
    TELL_SECONDS,
    FolderState,
    Unreadable,
    changes,
    due,
    scan,
)
from mesh.model import DECLARED, DeclaredKey


def subset(name: str, version: str = "v1") -> str:
    return (
        f"apiVersion: fairlead.dev/v1alpha1\nkind: ServiceSubset\nmetadata: {{name: {name}}}\n"
        f"spec: {{service: reviews, labels: {{version: {version}}}}}\n---\n"
    )


def glance(state: FolderState, now: float, /, **files: str | bytes | Unreadable | None) -> FolderState:
    found = {
        f"{name}.yaml": content.encode() if isinstance(content, str) else content for name, content in files.items()
    }
    return scan(state, found, now=now)


def look(state: FolderState, /, **files: str | bytes | Unreadable | None) -> FolderState:
    """What a folder declares once its files have kept still for long."""
    return glance(glance(state, 0, **files), 100, **dict.fromkeys(files))


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
    before = scan(EMPTY, {"d/a.yaml": subset("x").encode(), "e/a.yaml": subset("y").encode()}, now=0)
    after = scan(before, {}, now=0, missing={"d": Unreadable("gone", "bring it back")})
    assert list(declared(after)) == ["x"]
    assert codes(after) == ["d:0 UnreadableFolder"]


WHOLE = subset("x") + subset("y")


def test_a_file_that_is_written_anew_in_place_loses_nothing_meanwhile() -> None:
    state = glance(EMPTY, 0, a=WHOLE)
    new = subset("x", "v2") + subset("y", "v2")
    for now, part in enumerate((b"", new[:40].encode(), subset("x", "v2").encode(), new[:-10].encode())):
        state = glance(state, now, a=part)
        assert declared(state) == declared(glance(EMPTY, 0, a=WHOLE)), part
    state = glance(state, 4, a=new)
    assert {version for version, _ in declared(state).values()} == {"v2"}
    assert due(state, 4) is None


def test_an_object_that_a_file_lost_goes_when_the_file_has_kept_still() -> None:
    state = glance(glance(EMPTY, 0, a=WHOLE), 10, a=subset("y", "v2"))
    for now in (10.0, 10 + SETTLE_SECONDS - 0.01):
        state = glance(state, now, a=None)
        assert declared(state) == declared(glance(EMPTY, 0, a=WHOLE))
    state = glance(state, 10 + SETTLE_SECONDS, a=None)
    assert declared(state) == {"y": ("v2", "a.yaml:1")}
    assert state.problems == ()


def test_a_file_that_still_grows_is_waited_for_anew() -> None:
    three = WHOLE + subset("z")
    state = glance(EMPTY, 0, a=three)
    for now, part in ((1, subset("x")), (3, subset("x") + subset("y"))):
        state = glance(state, now, a=part)
    assert "z" in declared(glance(state, 1 + SETTLE_SECONDS, a=None))
    assert "z" not in declared(glance(state, 3 + SETTLE_SECONDS, a=None))


def test_a_file_that_became_empty_is_waited_for_longer_than_one_that_became_shorter() -> None:
    state = glance(glance(EMPTY, 0, a=WHOLE), 10, a="")
    state = glance(state, 10 + EMPTY_SECONDS - 1, a=None)
    assert list(declared(state)) == ["x", "y"]
    assert declared(glance(state, 10 + EMPTY_SECONDS, a=None)) == {}
    assert EMPTY_SECONDS > SETTLE_SECONDS


def test_one_object_that_may_lack_its_end_is_waited_for() -> None:
    whole = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  labels:\n    size: large\n"
    before = glance(EMPTY, 0, a=whole)
    cut = glance(before, 10, a=whole[:-3])  # `size: lar` is as good a label
    assert cut.declared == before.declared
    told = glance(cut, 10 + TELL_SECONDS, a=None)
    assert codes(told) == ["a.yaml:0 Waiting"]
    assert told.problems[0].fix == "end it with a newline"
    assert glance(cut, 10 + SETTLE_SECONDS, a=None).declared != before.declared


def test_what_is_shorter_and_ends_or_is_longer_or_wrong_is_taken_at_once() -> None:
    whole = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {b: cc}}\n"
    before = glance(EMPTY, 0, a=whole)
    for content in (whole.replace("cc", "c"), whole.replace("cc", "cccc")[:-1]):
        assert glance(before, 10, a=content).declared != before.declared
    assert codes(glance(before, 10, a=whole.replace("labels", "bels")[:-1])) == ["a.yaml:3 UnknownField"]


def test_an_object_that_moves_to_another_file_is_not_waited_for() -> None:
    before = glance(EMPTY, 0, a=WHOLE, b=subset("z"))
    after = glance(before, 10, a=subset("x"), b=subset("z") + subset("y"))
    assert declared(after)["y"] == ("v1", "b.yaml:6")
    assert after.problems == ()
    step = glance(glance(before, 10, a=subset("x"), b=None), 11, a=None, b=subset("z") + subset("y"))
    assert declared(step) == declared(after)


def test_two_files_that_lose_the_same_object_do_not_vouch_for_each_other() -> None:
    before = glance(EMPTY, 0, a=WHOLE, b=WHOLE)
    assert "y" in declared(glance(before, 10, a=subset("x"), b=subset("x")))


def test_a_wait_is_told_when_it_is_longer_than_a_moment() -> None:
    state = glance(glance(EMPTY, 0, a=WHOLE + subset("z")), 10, a=subset("x"))
    assert state.problems == ()
    assert due(state, 10) == TELL_SECONDS
    state = glance(state, 10 + TELL_SECONDS, a=None)
    assert codes(state) == ["a.yaml:0 Waiting"]
    (problem,) = state.problems
    assert problem.level == "warning"
    assert problem.message.startswith(
        "it no longer declares ServiceSubset default/y and 1 more; what it declared stands"
    )
    assert due(state, 10 + TELL_SECONDS) == SETTLE_SECONDS - TELL_SECONDS
    state = glance(state, 10 + SETTLE_SECONDS, a=None)
    assert (state.problems, due(state, 20)) == ((), None)


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
