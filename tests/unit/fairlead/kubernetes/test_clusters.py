from __future__ import annotations

import pytest

from fairlead.errors import UsageError
from fairlead.kubernetes import clusters
from fairlead.kubernetes.clusters import Place, cluster_places
from fairlead.settings import Settings
from fairlead.settings_load import load


def places(*values: str) -> tuple[Place, ...]:
    return cluster_places(Settings(kubernetes=values))


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("in-cluster", Place("default")),
        ("~/.kube/config", Place("default", "~/.kube/config")),
        ("/etc/k.yaml#arn:aws:eks:eu-1:1:cluster/x", Place("default", "/etc/k.yaml", "arn:aws:eks:eu-1:1:cluster/x")),
        ("east=in-cluster", Place("east")),
        ("east=config#east", Place("east", "config", "east")),
        ("/a=b/config", Place("default", "/a=b/config")),
    ],
)
def test_a_cluster_is_the_own_one_or_a_kubeconfig_and_may_have_a_name(value: str, place: Place) -> None:
    assert places(value) == (place,)


def test_several_clusters_keep_their_order() -> None:
    assert [place.name for place in places("west=in-cluster", "east=~/east")] == ["west", "east"]


@pytest.mark.parametrize("value", ["", "east=", "#context", "east=#context", "a\0b"])
def test_what_names_no_cluster_is_refused_with_examples(value: str) -> None:
    with pytest.raises(UsageError, match=r"names no cluster\. Fix: .*in-cluster"):
        places(value)


def test_two_clusters_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match=r"two clusters are named 'default'\. Fix"):
        places("in-cluster", "~/.kube/config")


def test_an_optional_cluster_must_be_one_that_is_named() -> None:
    settings = Settings(kubernetes=("east=in-cluster",), kubernetes_optional=("west",))
    with pytest.raises(UsageError, match=r"there is no cluster 'west'\. Fix: name one of those: east"):
        cluster_places(settings)


def test_in_the_environment_clusters_are_separated_by_commas() -> None:
    environ = {"FAIRLEAD_KUBERNETES": "in-cluster,east=/k#arn:aws:eks", "FAIRLEAD_KUBERNETES_NAMESPACES": "a,b"}
    settings = load({}, environ=environ)
    assert settings.kubernetes == ("in-cluster", "east=/k#arn:aws:eks")
    assert settings.kubernetes_namespaces == ("a", "b")


@pytest.mark.parametrize("value", ["x", "/x", "x/", "a/b/c"])
def test_a_lease_is_named_by_namespace_and_name(value: str) -> None:
    with pytest.raises(UsageError, match=r"names no Lease\. Fix: write NAMESPACE/NAME"):
        clusters._lease(Settings(kubernetes_lease=value))
    assert clusters._lease(Settings(kubernetes_lease="a/b")) == ("a", "b")


def test_without_the_client_of_kubernetes_the_fix_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install 'fairlead\[kubernetes\]'"):
        clusters._need_client()
