from __future__ import annotations

import pytest

from mesh.conditions import Condition
from mesh.definitions import DEFINITIONS, Definition, DefinitionKey
from mesh.tables import Change
from tests.support.model import Model

CLASS = "{kind: GatewayClass, metadata: {name: ours}, spec: {controllerName: fairlead.dev/gateway-controller}}"


def said(*releases: str) -> Condition | None:
    """The condition of a class in a cluster whose definitions are of those releases."""
    model = Model()
    model.apply(CLASS, source="kubernetes:one")
    model.engine.commit(
        [
            Change(DEFINITIONS, DefinitionKey("kubernetes:one", f"{at}.example.com"), Definition(release, "standard"))
            for at, release in enumerate(releases)
        ]
    )
    conditions = model.status("GatewayClass", "ours", "").conditions
    assert conditions[0] == Condition("Accepted", True, "Accepted")
    return next((condition for condition in conditions if condition.type == "SupportedVersion"), None)


@pytest.mark.parametrize("releases", [("v1.6.3",), ("v1.6.0", "v1.6.3"), ("v1.6.0-rc.1",)])
def test_releases_that_we_were_tried_with_are_supported(releases: tuple[str, ...]) -> None:
    assert said(*releases) == Condition("SupportedVersion", True, "SupportedVersion")


@pytest.mark.parametrize(
    "release", ["v0.8.1", "v1.5.1", "v1.99.0", "v2.6.0", "", "1.6.3", "v1.6", "v1.6.3\nx", "v" + "9" * 9000]
)
def test_one_definition_of_another_release_or_of_none_is_told_by_name(release: str) -> None:
    condition = said("v1.6.3", release)
    assert condition is not None
    assert (condition.status, condition.reason) == (False, "UnsupportedVersion")
    assert "1.example.com" in condition.message
    assert "0.example.com" not in condition.message


def test_where_nothing_is_known_nothing_is_said() -> None:
    assert said() is None


def test_the_definitions_of_another_cluster_say_nothing() -> None:
    model = Model()
    model.apply(CLASS, source="files")
    model.engine.commit([Change(DEFINITIONS, DefinitionKey("kubernetes:one", "x"), Definition("v0.1.0", "standard"))])
    assert len(model.status("GatewayClass", "ours", "").conditions) == 1
