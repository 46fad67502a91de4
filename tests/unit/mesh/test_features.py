from __future__ import annotations

from pathlib import Path

from mesh.definitions import DEFINITIONS, Definition, DefinitionKey
from mesh.features import FEATURES, NOT_SERVED, names
from mesh.tables import Change
from tests.support.model import Model

# Counted in `pkg/features` of Gateway API v1.6.3.
ALL_FEATURES = 58

ROOT = Path(__file__).resolve().parents[3]
CLASS = "{kind: GatewayClass, metadata: {name: ours}, spec: {controllerName: fairlead.dev/gateway-controller}}"


def test_every_feature_that_is_claimed_has_a_test_with_a_real_envoy_or_a_real_platform() -> None:
    elsewhere = [feature for feature in FEATURES if not feature.shown_in.startswith("tests/kubernetes/")]
    texts = {feature.name: (ROOT / feature.shown_in).read_text() for feature in elsewhere}
    assert [name for name, text in texts.items() if "pytest.mark.envoy" not in text] == []
    assert all((ROOT / feature.shown_in).is_file() for feature in FEATURES)
    assert all(feature.served_by for feature in FEATURES)


def test_every_feature_of_the_specification_is_claimed_or_said_to_be_lacking_and_never_both() -> None:
    assert set(NOT_SERVED) & set(names()) == set()
    assert len(set(NOT_SERVED) | set(names())) == ALL_FEATURES


def test_the_features_are_claimed_once_in_alphabetical_order_and_fit_into_a_status() -> None:
    assert list(names()) == sorted(set(names()))
    assert len(names()) <= 64


def test_the_core_features_that_the_conformance_suite_infers_its_profile_from_are_claimed() -> None:
    assert {"Gateway", "HTTPRoute", "ReferenceGrant"} <= set(names())


def test_a_gateway_class_tells_the_features() -> None:
    model = Model()
    model.apply(CLASS)
    told = model.status("GatewayClass", "ours", "").to_json()["supportedFeatures"]
    assert told == [{"name": name} for name in names()]


def test_features_of_the_experimental_channel_are_not_claimed_where_its_fields_are_cut_off() -> None:
    model = Model()
    model.apply(CLASS, source="kubernetes:one")
    key = DefinitionKey("kubernetes:one", "httproutes.gateway.networking.k8s.io")
    model.engine.commit([Change(DEFINITIONS, key, Definition("v1.6.3", "standard"))])
    claimed = model.status("GatewayClass", "ours", "").supported_features
    assert "HTTPRouteRetry" not in claimed
    assert "HTTPRouteCORS" in claimed
    model.engine.commit([Change(DEFINITIONS, key, Definition("v1.6.3", "experimental"))])
    assert "HTTPRouteRetry" in model.status("GatewayClass", "ours", "").supported_features
