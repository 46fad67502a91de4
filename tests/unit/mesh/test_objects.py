from __future__ import annotations

from mesh.model import DECLARED, DeclaredKey, ObjectKey
from mesh.objects import OBJECTS, SHADOWED
from mesh.tables import Change
from tests.support.model import Model, declared, objects

NAMESPACE = "{kind: Namespace, metadata: {name: shop, annotations: {from: SOURCE}}}"
KEY = ObjectKey("Namespace", "", "shop")


def put(model: Model, *sources: str) -> None:
    for source in sources:
        model.apply(NAMESPACE.replace("SOURCE", f'"{source}"'), source=source)


def winner(model: Model) -> str | None:
    row = model.engine.get(OBJECTS, KEY)
    return row.object.metadata.annotations["from"] if row is not None else None


def test_kubernetes_wins_over_the_store_and_the_store_over_files() -> None:
    model = Model()
    put(model, "files", "store", "kubernetes:one")
    assert winner(model) == "kubernetes:one"
    model.delete("Namespace", "shop", "", source="kubernetes:one")
    assert winner(model) == "store"
    model.delete("Namespace", "shop", "", source="store")
    assert winner(model) == "files"
    model.delete("Namespace", "shop", "", source="files")
    assert winner(model) is None


def test_of_two_clusters_the_one_whose_name_sorts_first_wins() -> None:
    model = Model()
    put(model, "kubernetes:two", "kubernetes:one")
    assert winner(model) == "kubernetes:one"


def test_every_loser_is_told_who_shadows_it_and_where() -> None:
    model = Model()
    put(model, "files", "store")
    rows = model.engine.rows(SHADOWED)
    assert {key.source: (row.by, row.location) for key, row in rows.items()} == {"files": ("store", "store:shop")}


def test_a_shadowed_declaration_that_changes_changes_nothing_else() -> None:
    model = Model()
    put(model, "files", "store")
    commit = model.apply(NAMESPACE.replace("SOURCE", "elsewhere"), source="files")
    assert list(commit.changes) == [DECLARED]


def test_the_loser_s_status_says_shadowed() -> None:
    model = Model()
    put(model, "files", "store")
    assert model.status("Namespace", "shop", "").shadowed == ("files: shadowed by store (store:shop)",)


def test_one_batch_may_move_an_object_between_sources() -> None:
    model = Model()
    put(model, "files")
    (item,) = objects(NAMESPACE.replace("SOURCE", "store"))
    commit = model.engine.commit(
        [Change(DECLARED, DeclaredKey("Namespace", "", "shop", "files"), None), declared(item, source="store")]
    )
    assert winner(model) == "store"
    assert set(commit.of(OBJECTS)) == {KEY}
    assert model.engine.rows(SHADOWED) == {}
