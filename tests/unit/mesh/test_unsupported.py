"""What is refused rather than skipped, for whole rules and for single backends."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mesh import unsupported
from mesh.kinds.http_filters import HTTPRouteFilter
from mesh.model import ObjectKey
from mesh.proxyless import limits
from mesh.tables import Present
from tests.support.model import Model

HEADERS = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["x"]}}
EXTENSION = {"type": "ExtensionRef", "extensionRef": {"group": "x.org", "kind": "Guard", "name": "strict"}}
HOST = {"type": "URLRewrite", "urlRewrite": {"hostname": "b.org"}}
PATH = {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/"}}}
CORS: dict[str, Any] = {"type": "CORS", "cors": {}}


def filters(*given: dict[str, Any]) -> tuple[HTTPRouteFilter, ...]:
    return msgspec.convert(given, tuple[HTTPRouteFilter, ...])


def test_a_rule_is_refused_for_a_filter_of_a_foreign_kind_and_for_no_other() -> None:
    assert unsupported.of_rule(filters(HEADERS, HOST, PATH, CORS)) == ""
    assert "Guard strict" in unsupported.of_rule(filters(HEADERS, EXTENSION))


@pytest.mark.parametrize(("given", "refused"), [(HEADERS, ""), (HOST, ""), (PATH, ""), (CORS, "CORS")])
def test_a_backend_has_filters_of_headers_host_and_path_only(given: dict[str, Any], refused: str) -> None:
    said = unsupported.of_backend(filters(given))
    assert refused in said
    assert bool(said) is bool(refused)


def test_proxyless_grpc_clients_have_no_filters_at_all() -> None:
    assert "gRPC" in unsupported.of_rule(filters(HEADERS), grpc=True)
    assert "gRPC" in unsupported.of_backend(filters(HOST), grpc=True)
    assert unsupported.of_rule((), grpc=True) == unsupported.of_backend((), grpc=True) == ""


def test_it_is_said_that_proxyless_grpc_clients_cannot_reach_a_backend_outside() -> None:
    model = Model()
    model.discover("shop", "10.0.0.1")
    model.apply("{kind: Backend, metadata: {name: shop}, spec: {endpoints: [{ip: {address: 203.0.113.7, port: 80}}]}}")
    ref = "{group: fairlead.dev, kind: Backend, name: shop}"
    parent = "{group: '', kind: Service, name: shop}"
    model.apply(
        f"{{kind: GRPCRoute, metadata: {{name: r}}, "
        f"spec: {{parentRefs: [{parent}], rules: [{{backendRefs: [{ref}, {{name: shop, port: 80}}]}}]}}}}"
    )
    (said,) = limits(Present(model.engine), ObjectKey("GRPCRoute", "default", "r"))
    assert said.startswith("spec.rules[0].backendRefs[0] has a Backend")
