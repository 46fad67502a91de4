"""GRPCRoute: real gRPC calls through a real Envoy to real gRPC backends, in plaintext and by HTTP/2 alone."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.envoy.test_backends import own_address
from tests.support.issuers import Issuer
from tests.support.routing import document, gateway, get, route, service, serving
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy

HOST = "a.example.com"


class GrpcBackend(grpc.GenericRpcHandler):
    """Answers every method with its own name, and remembers what it was asked; `Drip` sends three answers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """The handler of a method."""
        metadata = dict(handler_call_details.invocation_metadata or ())
        self.seen.append((handler_call_details.method, metadata))
        if handler_call_details.method.endswith("/Drip"):
            return grpc.unary_stream_rpc_method_handler(lambda _request, _context: iter([self.name.encode()] * 3))
        return grpc.unary_unary_rpc_method_handler(self._say)

    def _say(self, _request: bytes, context: grpc.ServicerContext) -> bytes:
        context.send_initial_metadata((("x-internal", "secret"), ("x-kept", "yes")))
        return self.name.encode()


@contextlib.contextmanager
def grpc_backend(name: str, address: str = "127.0.0.1") -> Iterator[GrpcBackend]:
    """A gRPC server that serves until the block ends."""
    backend = GrpcBackend(name)
    server = grpc.server(ThreadPoolExecutor(4), handlers=[backend])
    backend.port = server.add_insecure_port(f"{address}:0")
    server.start()
    try:
        yield backend
    finally:
        server.stop(None).wait()


def grpc_route(rules: str, *, hosts: str = f"[{HOST}]", name: str = "calls", created: str = "") -> str:
    stamp = f", creationTimestamp: '{created}'" if created else ""
    return f"""
kind: GRPCRoute
metadata: {{name: {name}{stamp}}}
spec:
  parentRefs: [{{name: edge}}]
  hostnames: {hosts}
  rules:{rules}
---
"""


class Caller:
    """Calls through the gateway over one channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def __call__(self, method: str, *metadata: tuple[str, str]) -> str:
        """Who answered; or the name of the status and its details."""
        try:
            answer: bytes = self._channel.unary_unary(method)(b"", timeout=10, metadata=metadata, wait_for_ready=True)
        except grpc.RpcError as error:
            return str(error.code().name)
        return answer.decode()

    def headers(self, method: str) -> dict[str, str]:
        """The metadata that an answer begins with."""
        _, call = self._channel.unary_unary(method).with_call(b"", timeout=10, wait_for_ready=True)
        return {name: str(value) for name, value in call.initial_metadata()}

    def stream(self, method: str) -> list[bytes]:
        """All answers of a call that has several."""
        return list(self._channel.unary_stream(method)(b"", timeout=10, wait_for_ready=True))


@contextlib.contextmanager
def calling(port: int, host: str = HOST) -> Iterator[Caller]:
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.default_authority", host)]) as channel:
        yield Caller(channel)


def test_calls_go_by_service_method_and_headers_and_the_most_specific_match_wins(tmp_path: Path) -> None:
    port = free_port()
    # The least specific first: the order in which rules are written must not count.
    rules = """
  - {backendRefs: [{name: any, port: 80}]}
  - matches: [{method: {type: RegularExpression, service: 'shop\\.v[0-9]\\..*', method: 'Get|Put'}}]
    backendRefs: [{name: regex, port: 80}]
  - matches: [{method: {method: Get}}]
    backendRefs: [{name: method, port: 80}]
  - matches: [{method: {service: shop.Reviews}}]
    backendRefs: [{name: service, port: 80}]
  - matches: [{method: {service: shop.Reviews, method: Get}}]
    backendRefs: [{name: both, port: 80}]
  - name: mine
    matches: [{method: {service: shop.Reviews, method: Get}, headers: [{name: X-User, value: me}]}]
    backendRefs: [{name: header, port: 80}]"""
    expected = {
        ("/shop.Reviews/Get", ("x-user", "me")): "header",
        ("/shop.Reviews/Get", ("x-user", "you")): "both",
        ("/shop.Reviews/Put",): "service",
        ("/shop.ReviewsOfOthers/Put",): "any",
        ("/shop.Others/Get",): "method",
        ("/shop.Others/get",): "any",
        ("/shop.v1.Reviews/Put",): "regex",
        ("/shop.v1.Reviews/Get",): "method",
        ("/shop.v1.Reviews/GetAll",): "any",
    }
    with contextlib.ExitStack() as stack:
        backends = {name: stack.enter_context(grpc_backend(name)) for name in set(expected.values())}
        services = "".join(service(name, one.port) for name, one in backends.items())
        stack.enter_context(serving(gateway(port) + services + grpc_route(rules), tmp_path))
        call = stack.enter_context(calling(port))
        assert {asked: call(*asked) for asked in expected} == expected  # type: ignore[arg-type]
        assert call.stream("/shop.Others/Drip") == [b"any"] * 3


def test_a_call_without_a_route_is_unimplemented_and_one_without_a_backend_unavailable(tmp_path: Path) -> None:
    port = free_port()
    rules = """
  - matches: [{method: {service: shop.Reviews}}]
    backendRefs: [{name: reviews, port: 80, weight: 1}, {name: missing, port: 80, weight: 1}]
  - matches: [{method: {service: shop.Gone}}]
    backendRefs: [{name: missing, port: 80}]
  - matches: [{method: {service: shop.Nothing}}]
  - matches: [{method: {service: shop.Special}}]
    filters: [{type: ExtensionRef, extensionRef: {group: example.com, kind: Special, name: one}}]
    backendRefs: [{name: reviews, port: 80}]"""
    with grpc_backend("reviews") as backend:
        text = gateway(port) + service("reviews", backend.port) + grpc_route(rules)
        with serving(text, tmp_path), calling(port) as call, calling(port, "other.example.com") as elsewhere:
            assert call("/shop.Others/Get") == "UNIMPLEMENTED"
            assert elsewhere("/shop.Reviews/Get") == "UNIMPLEMENTED"
            for service_name in ("Gone", "Nothing", "Special"):
                assert call(f"/shop.{service_name}/Get") == "UNAVAILABLE"
            counts = Counter(call("/shop.Reviews/Get") for _ in range(100))
            assert set(counts) == {"reviews", "UNAVAILABLE"}
            assert min(counts.values()) >= 20


def test_filters_change_metadata_both_ways_and_copy_calls_and_weights_share_them(tmp_path: Path) -> None:
    port = free_port()
    rules = """
  - filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: x-by, value: route}], remove: [x-secret]}
    - {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [x-internal]}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: copy, port: 80}}}
    backendRefs:
    - {name: heavy, port: 80, weight: 90}
    - name: light
      port: 80
      weight: 10
      filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-light, value: "yes"}]}}]
    - {name: none, port: 80, weight: 0}"""
    with contextlib.ExitStack() as stack:
        backends = {name: stack.enter_context(grpc_backend(name)) for name in ("heavy", "light", "none", "copy")}
        services = "".join(service(name, one.port) for name, one in backends.items())
        stack.enter_context(serving(gateway(port) + services + grpc_route(rules), tmp_path))
        call = stack.enter_context(calling(port))
        counts = Counter(call("/shop.Reviews/Get", ("x-secret", "s")) for _ in range(500))
        assert abs(counts["heavy"] - 450) <= 34  # five standard deviations
        assert set(counts) == {"heavy", "light"}
        got = call.headers("/shop.Reviews/Get")
        assert "x-internal" not in got
        assert got["x-kept"] == "yes"
        for name in ("heavy", "light"):
            for _, metadata in backends[name].seen:
                assert (metadata["x-by"], "x-secret" in metadata) == ("route", False)
                assert ("x-light" in metadata) == (name == "light")
        assert backends["none"].seen == []
        assert {method for method, _ in backends["copy"].seen} == {"/shop.Reviews/Get"}


def test_of_a_grpc_and_an_http_route_for_one_hostname_the_older_one_has_it(tmp_path: Path) -> None:
    port = free_port()
    rules = "\n  - {backendRefs: [{name: calls, port: 80}]}"
    with grpc_backend("calls") as backend:
        text = (
            gateway(port)
            + service("calls", backend.port)
            + grpc_route(rules, created="2024-01-01T00:00:00Z")
            + grpc_route(rules, name="alone", hosts="[b.example.com]")
            + route("\n  - filters: [{type: RequestRedirect, requestRedirect: {hostname: x.com}}]")
            + route(
                "\n  - filters: [{type: RequestRedirect, requestRedirect: {hostname: x.com}}]",
                name="apart",
                hosts="[c.example.com]",
            )
        )
        with serving(text, tmp_path), calling(port) as call, calling(port, "b.example.com") as other:
            assert call("/shop.Reviews/Get") == "calls"
            assert other("/shop.Reviews/Get") == "calls"
            assert get(port, "/", host="c.example.com")[0] == 302


def test_calls_of_a_grpc_route_need_the_tokens_that_a_policy_of_it_or_of_its_rule_asks_for(tmp_path: Path) -> None:
    port = free_port()
    issuer = Issuer()
    rules = """
  - name: public
    matches: [{method: {service: shop.Public}}]
    backendRefs: [{name: one, port: 80}]
  - name: private
    backendRefs: [{name: one, port: 80}]"""

    def policy(name: str, section: str, **spec: Any) -> str:
        target = {"group": "gateway.networking.k8s.io", "kind": "GRPCRoute", "name": "calls"}
        refs = [{**target, **({"sectionName": section} if section else {})}]
        return document("RequestAuthentication", name, {"targetRefs": refs, **spec})

    with grpc_backend("one") as one:
        text = gateway(port) + service("one", one.port, protocol="GRPC") + grpc_route(rules)
        text += grpc_route("\n  - backendRefs: [{name: one, port: 80}]", name="other", hosts="[other.example.com]")
        rule = {
            "issuer": issuer.name,
            "jwks": issuer.jwks,
            "outputClaimToHeaders": [{"header": "x-sub", "claim": "sub"}],
        }
        text += policy("whole", "", jwtRules=[rule], required=True) + policy("rule", "public", required=False)
        good = ("authorization", f"Bearer {issuer.token(sub='alice')}")
        bad = ("authorization", f"Bearer {issuer.token(exp=1)}")
        with serving(text, tmp_path), calling(port) as call, calling(port, "other.example.com") as other:
            assert [call("/shop.Private/Get"), call("/shop.Private/Get", bad)] == ["UNAUTHENTICATED"] * 2
            assert one.seen == []
            assert call("/shop.Private/Get", good) == "one"
            assert one.seen[-1][1]["x-sub"] == "alice"
            assert [call("/shop.Public/Get"), call("/shop.Public/Get", bad)] == ["one", "UNAUTHENTICATED"]
            assert [other("/shop.Private/Get"), other("/shop.Private/Get", bad)] == ["one", "one"]


def test_calls_go_to_an_address_outside_the_catalog(tmp_path: Path) -> None:
    port, address = free_port(), own_address()
    with grpc_backend("outside", address) as outside:
        text = gateway(port) + document(
            "Backend", "far", {"endpoints": [{"ip": {"address": address, "port": outside.port}}]}
        )
        text += grpc_route("\n  - backendRefs: [{group: fairlead.dev, kind: Backend, name: far}]")
        with serving(text, tmp_path), calling(port) as call:
            assert call("/shop.Reviews/Get") == "outside"
