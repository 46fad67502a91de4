from __future__ import annotations

from typing import Any

import pytest

from discovery.kubernetes.config import LAST_APPLIED, Config, resource, watched_kinds
from discovery.kubernetes.wire import Key, Malformed
from mesh.kinds import KINDS
from mesh.model import Declared, ObjectKey

SOURCE = "kubernetes:east"
SUBSET = KINDS["ServiceSubset"]
KEY = ObjectKey("ServiceSubset", "shop", "v1")


def subset(name: str = "v1", *, generation: int = 1, version: str = "10", **changed: Any) -> dict[str, Any]:
    """A ServiceSubset as the API server tells of it, with the bookkeeping."""
    return {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "ServiceSubset",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": "u-1",
            "generation": generation,
            "resourceVersion": version,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {LAST_APPLIED: "{}" * 1000, "note": "mine"},
            "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
            "finalizers": ["x/y"],
        },
        "spec": {"service": "reviews", "labels": {"version": "v1"}, **changed.pop("spec", {})},
        **changed,
    }


def rows(config: Config) -> dict[str, Declared | None]:
    return {change.key[2]: change.row for change in config.take()}


def test_an_object_becomes_a_row_with_the_servers_stamps_and_without_its_bookkeeping() -> None:
    config = Config(SOURCE)
    config.put(SUBSET, subset())
    (change,) = config.take()
    assert change.key == (*KEY, SOURCE)
    metadata = change.row.object.metadata
    assert (metadata.uid, metadata.generation, metadata.resource_version) == ("u-1", 1, "10")
    assert metadata.creation_timestamp == "2026-01-01T00:00:00Z"
    assert metadata.annotations == {"note": "mine"}
    assert change.row.location == "kubernetes:east@10"
    assert config.take() == ()
    assert config.problems == ()


def test_a_status_that_was_written_is_no_change() -> None:
    config = Config(SOURCE)
    config.put(SUBSET, subset())
    config.take()
    config.put(SUBSET, subset(version="11", status={"conditions": []}))
    assert config.take() == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"generation": 2, "spec": {"service": "ratings"}},
        {"metadata": {**subset()["metadata"], "labels": {"a": "b"}, "resourceVersion": "11"}},
        {"metadata": {**subset()["metadata"], "annotations": {"note": "yours"}, "resourceVersion": "11"}},
        {"metadata": {**subset()["metadata"], "uid": "u-2", "resourceVersion": "11"}},
    ],
    ids=["spec", "labels", "annotations", "made anew"],
)
def test_a_change_of_spec_labels_annotations_or_identity_is_one(changed: dict[str, Any]) -> None:
    config = Config(SOURCE)
    config.put(SUBSET, subset())
    config.take()
    config.put(SUBSET, {**subset(), **changed} if "metadata" in changed else subset(**changed))
    assert len(config.take()) == 1


def test_an_object_made_invalid_keeps_its_last_good_form_and_is_a_problem_until_it_is_mended() -> None:
    config = Config(SOURCE)
    config.put(SUBSET, subset())
    config.take()
    config.put(SUBSET, subset(generation=2, version="11", spec={"service": 7}))
    assert config.take() == ()
    (problem,) = config.problems
    assert (problem.level, problem.file, problem.path) == ("error", "ServiceSubset shop/v1", "spec.service")
    config.put(SUBSET, subset(generation=3, version="12", spec={"service": "ratings"}))
    (row,) = rows(config).values()
    assert row is not None
    assert row.object.metadata.generation == 3
    assert config.problems == ()


def test_an_object_that_is_invalid_at_the_start_counts_as_an_earlier_run_knew_it() -> None:
    before = Config(SOURCE)
    before.put(SUBSET, subset())
    good = before.rows[KEY].object
    config = Config(SOURCE, last_good=lambda key: good if key == KEY else None)
    config.put(SUBSET, subset(generation=2, spec={"service": 7}))
    config.put(SUBSET, subset("v2", spec={"service": 7}))
    assert rows(config) == {"v1": Declared(good, "kubernetes:east@10")}
    assert len(config.problems) == 2
    config.retain(SUBSET, [Key("shop", "v1"), Key("shop", "v2")])
    assert config.take() == ()


def test_an_object_that_cannot_be_read_at_all_keeps_its_last_good_form_too() -> None:
    config = Config(SOURCE)
    config.put(SUBSET, subset())
    config.take()
    config.reject(SUBSET, Malformed(Key("shop", "v1"), "Expected `object`, got `int` - at `$.spec`"))
    assert config.take() == ()
    assert [problem.code for problem in config.problems] == ["Malformed"]
    config.remove(SUBSET, Key("shop", "v1"))
    assert rows(config) == {"v1": None}
    assert config.problems == ()


def test_objects_that_a_list_does_not_have_are_gone_and_of_other_kinds_and_namespaces_nothing() -> None:
    config = Config(SOURCE)
    config.put(SUBSET, subset("v1"))
    config.put(SUBSET, subset("v2"))
    config.put(KINDS["Namespace"], {"metadata": {"name": "shop", "resourceVersion": "3"}})
    config.take()
    config.retain(SUBSET, [], of=lambda key: key.namespace == "elsewhere")
    assert config.take() == ()
    config.retain(SUBSET, [Key("shop", "v2")])
    assert rows(config) == {"v1": None}


def test_items_of_core_lists_name_no_kind_and_are_read_all_the_same() -> None:
    config = Config(SOURCE)
    raw = {
        "metadata": {"name": "shop", "labels": {"team": "a"}},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }
    config.put(KINDS["Namespace"], raw)
    (row,) = rows(config).values()
    assert row is not None
    assert row.object.metadata.labels == {"team": "a"}


def test_nulls_count_as_absent() -> None:
    config = Config(SOURCE)
    raw = subset()
    raw["metadata"] |= {"labels": None, "annotations": None}
    config.put(SUBSET, raw)
    assert len(config.take()) == 1
    config.put(SUBSET, raw)
    assert config.take() == ()


def test_a_copy_is_stale_until_the_api_server_has_told_of_the_object() -> None:
    before = Config(SOURCE)
    for name in ("v1", "v2"):
        before.put(SUBSET, subset(name))
    copies = [row.object for row in before.rows.values()]
    config = Config(SOURCE)
    config.restore(copies)
    assert {name: row.stale for name, row in rows(config).items() if row is not None} == {"v1": True, "v2": True}
    config.put(SUBSET, subset("v1"))
    config.retain(SUBSET, [Key("shop", "v1")])
    fresh = rows(config)
    assert fresh["v2"] is None
    assert fresh["v1"] is not None
    assert not fresh["v1"].stale


def test_a_copy_never_takes_the_place_of_what_is_known() -> None:
    config = Config(SOURCE)
    config.put(SUBSET, subset())
    config.take()
    config.restore([config.rows[KEY].object])
    assert config.take() == ()


def test_the_observer_sees_every_form_with_its_status_and_the_end() -> None:
    seen: list[tuple[ObjectKey, Any]] = []
    config = Config(SOURCE, observer=lambda key, raw: seen.append((key, raw)))
    raw = subset(status={"conditions": []})
    config.put(SUBSET, raw)
    config.put(SUBSET, raw)
    config.remove(SUBSET, Key("shop", "v1"))
    assert seen == [(KEY, raw), (KEY, raw), (KEY, None)]


def test_every_kind_but_secrets_is_watched_whole_at_the_path_that_the_api_server_has_for_it() -> None:
    assert {kind.name for kind in watched_kinds()} == KINDS.keys() - {"Secret", "ConfigMap"}
    assert resource(KINDS["HTTPRoute"]).paths == (
        "/apis/gateway.networking.k8s.io/v1/httproutes",
        "/apis/gateway.networking.k8s.io/v1beta1/httproutes",
    )
    assert resource(KINDS["HTTPRoute"], "shop").paths[0].endswith("/v1/namespaces/shop/httproutes")
    assert resource(KINDS["GatewayClass"], "shop").paths[0].endswith("/v1/gatewayclasses")
    assert resource(KINDS["Namespace"]).paths == ("/api/v1/namespaces",)
    secret = resource(KINDS["Secret"], "shop", "tls")
    assert secret.paths == ("/api/v1/namespaces/shop/secrets",)
    assert secret.fields == "metadata.name=tls"


@pytest.mark.parametrize(
    "spec", [[], "x", 7, {"service": {"a": [{}] * 100}}, {"labels": {"x": "y" * 100_000}}, {"service": "\x00\ud800"}]
)
def test_no_spec_however_odd_raises(spec: Any) -> None:
    config = Config(SOURCE)
    config.put(SUBSET, subset() | {"spec": spec})
    assert config.problems
    assert config.take() == ()
