from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.model import Audience
from mesh.tables import Change, Engine, Input
from xds.resources import Resource, ResourceKey, View, ViewKey
from xds.schema.type_urls import TYPE_CLUSTER, TYPE_ROUTE
from xds.server.shelves import Shelves

AUDIENCES = [Audience("gateway", "default", name) for name in "xy"]
KEYS = [ResourceKey(TYPE_CLUSTER, name, scope) for name in "abc" for scope in ("", "s")]


def row(key: ResourceKey, version: str) -> Resource:
    return Resource(key.type_url, key.name, version, version.encode())


def views() -> st.SearchStrategy[View]:
    """Views that hold each name once, with overrides of what they hold."""

    def make(chosen: dict[str, str], overridden: dict[str, str]) -> View:
        keys = tuple(sorted(ResourceKey(TYPE_CLUSTER, name, scope) for name, scope in chosen.items()))
        overrides = tuple(
            (key, row(key, overridden[key.name]) if overridden[key.name] != "none" else None)
            for key in keys
            if key.name in overridden
        )
        return View(keys, overrides)

    names = st.sampled_from("abc")
    return st.builds(
        make,
        st.dictionaries(names, st.sampled_from(["", "s"])),
        st.dictionaries(names, st.sampled_from(["good", "none"]), max_size=1),
    )


CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("row"), st.sampled_from(KEYS), st.sampled_from(["1", "2", ""])),
        st.tuples(st.just("view"), st.sampled_from(AUDIENCES), st.none() | views()),
    ),
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(batches=st.lists(CHANGES, max_size=8))
def test_what_stands_on_the_shelves_is_what_a_fresh_start_would_put_there(batches: list[list[Any]]) -> None:
    rows: Input[ResourceKey, Resource] = Input("rows")
    views_table: Input[ViewKey, View] = Input("views")
    engine = Engine([rows, views_table])
    shelves = Shelves({TYPE_CLUSTER: (rows,)}, views_table)
    for batch in batches:
        changes = []
        for kind, key, value in batch:
            if kind == "row":
                changes.append(Change(rows, key, row(key, value) if value else None))
            else:
                changes.append(Change(views_table, ViewKey(key, TYPE_CLUSTER), value))
        seen = {audience: shelves.contents(audience, TYPE_CLUSTER) for audience in AUDIENCES}
        changed = shelves.publish(engine.commit(changes))
        fresh = Shelves({TYPE_CLUSTER: (rows,)}, views_table)
        fresh.load(engine)
        for audience in AUDIENCES:
            now, expected = shelves.contents(audience, TYPE_CLUSTER), fresh.contents(audience, TYPE_CLUSTER)
            assert (now is None) == (expected is None)
            if now is not None and expected is not None:
                assert now.versions() == expected.versions()
            if now is not seen[audience]:
                assert ViewKey(audience, TYPE_CLUSTER) in changed


def test_one_changed_row_changes_one_name_and_says_which() -> None:
    rows: Input[ResourceKey, Resource] = Input("rows")
    views_table: Input[ViewKey, View] = Input("views")
    engine = Engine([rows, views_table])
    shelves = Shelves({TYPE_CLUSTER: (rows,)}, views_table)
    keys = [ResourceKey(TYPE_CLUSTER, f"c{i}") for i in range(100)]
    shelves.publish(
        engine.commit(
            [Change(rows, key, row(key, "1")) for key in keys]
            + [Change(views_table, ViewKey(AUDIENCES[0], TYPE_CLUSTER), View(tuple(keys)))]
        )
    )
    before = shelves.contents(AUDIENCES[0], TYPE_CLUSTER)
    shelves.publish(engine.commit([Change(rows, keys[7], row(keys[7], "2"))]))
    after = shelves.contents(AUDIENCES[0], TYPE_CLUSTER)
    assert before is not None
    assert after is not None
    assert after.changed_since(before) == {"c7"}
    assert all(after.get(key.name) is before.get(key.name) for key in keys if key.name != "c7")


def test_of_a_type_without_tables_there_is_nothing_and_of_an_unknown_audience_nothing_is_known() -> None:
    shelves = Shelves({TYPE_CLUSTER: ()}, Input("views"))
    unknown_type = shelves.contents(AUDIENCES[0], TYPE_ROUTE)
    assert unknown_type is not None
    assert len(unknown_type) == 0
    assert shelves.contents(AUDIENCES[0], TYPE_CLUSTER) is None


def test_the_shelf_of_an_audience_that_the_tables_know_no_more_is_let_go() -> None:
    views_table: Input[ViewKey, View] = Input("views")
    engine = Engine([views_table])
    shelves = Shelves({TYPE_CLUSTER: ()}, views_table)
    shelves.publish(engine.commit([Change(views_table, ViewKey(AUDIENCES[0], TYPE_CLUSTER), View(()))]))
    shelves.contents(AUDIENCES[0], TYPE_CLUSTER)
    assert shelves.shelved() == 1
    shelves.publish(engine.commit([Change(views_table, ViewKey(AUDIENCES[0], TYPE_CLUSTER), None)]))
    assert shelves.shelved() == 0
    assert shelves.contents(AUDIENCES[0], TYPE_CLUSTER) is None
