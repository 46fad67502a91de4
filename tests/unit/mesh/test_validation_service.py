"""Service, ServiceSubset and Secret."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from mesh.validation import validate

PORT = {"name": "http", "port": 80}


def service(*endpoints: dict[str, Any], ports: list[Any] | None = None, name: str = "reviews", **spec: Any) -> Any:
    return {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ports": [PORT] if ports is None else ports, "endpoints": list(endpoints), **spec},
    }


def codes(raw: Any) -> list[str]:
    return [f"{problem.code} {problem.path}" for problem in validate(raw).problems]


def test_a_service_that_uses_everything_is_good() -> None:
    endpoint = {
        "address": "127.0.0.1",
        "ports": {"http": 9001},
        "labels": {"app.io/version": "v1"},
        "weight": 2,
        "region": "r",
        "zone": "b",
        "subZone": "c",
        "health": "Healthy",
        "priority": 1,
        "serviceAccount": "reviews.v1",
        "meshTls": True,
    }
    assert codes(service(endpoint, {"address": "2001:db8::1"}, exportTo=["*", ".", "team-a"])) == []
    assert codes(service(ports=[{"port": 80}])) == []


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ({"address": "localhost"}, "InvalidFormat address"),
        ({"address": "300.1.1.1"}, "InvalidFormat address"),
        ({"address": "0.0.0.0"}, "InvalidFormat address"),
        ({"address": "::"}, "InvalidFormat address"),
        ({"address": "224.0.0.1"}, "InvalidFormat address"),
        ({"address": "255.255.255.255"}, "InvalidFormat address"),
        ({"address": "::ffff:0.0.0.0"}, "InvalidFormat address"),
        ({"address": "::ffff:224.0.0.1"}, "InvalidFormat address"),
        ({"address": "fe80::1%eth0"}, "InvalidFormat address"),
        ({"address": "127.0.0.1:80"}, "InvalidFormat address"),
        ({"address": ""}, "TooShort address"),
        ({}, "MissingField address"),
        ({"address": "127.0.0.1", "ports": {"grpc": 1}}, "UnknownPort ports.grpc"),
        ({"address": "127.0.0.1", "ports": {"http": 0}}, "OutOfRange ports.http"),
        ({"address": "127.0.0.1", "weight": 0}, "OutOfRange weight"),
        ({"address": "127.0.0.1", "labels": {"a b": "c"}}, 'InvalidFormat labels["a b"]'),
        ({"address": "127.0.0.1", "health": "healthy"}, "UnknownValue health"),
        ({"address": "127.0.0.1", "serviceAccount": "a/b"}, "InvalidFormat serviceAccount"),
    ],
)
def test_an_endpoint_is_judged(endpoint: dict[str, Any], expected: str) -> None:
    assert [code.replace("spec.endpoints[0].", "") for code in codes(service(endpoint))] == [expected]


def test_multicast_of_ipv4_is_no_endpoint_even_on_the_fast_path() -> None:
    assert validate(service({"address": "239.255.255.250"})).object is None


def test_endpoints_differ_in_address_or_port() -> None:
    one = {"address": "127.0.0.1", "ports": {"http": 1}}
    assert codes(service(one, one)) == ["Duplicate spec.endpoints[1]"]
    assert codes(service(one, {**one, "ports": {"http": 2}})) == []


def test_weights_sum_to_what_envoy_can_hold() -> None:
    many = [{"address": f"10.0.{n // 250}.{n % 250 + 1}", "weight": 1_000_000} for n in range(4_295)]
    assert codes(service(*many)) == ["OutOfRange spec.endpoints"]
    assert codes(service(*many[1:])) == []


def test_ports_have_distinct_names_and_numbers() -> None:
    assert codes(service(ports=[])) == ["TooFew spec.ports"]
    assert codes(service(ports=[PORT, PORT])) == ["DuplicateName spec.ports[1].name", "Duplicate spec.ports[1].port"]
    assert codes(service(ports=[PORT, {"port": 81}])) == ["MissingField spec.ports[1].name"]
    assert codes(service(ports=[{**PORT, "protocol": "http"}])) == ["UnknownValue spec.ports[0].protocol"]


def test_names_and_exports_are_dns_labels() -> None:
    assert codes(service(name="a.b")) == ["InvalidFormat metadata.name"]
    assert codes(service(exportTo=["a.b"])) == ["InvalidFormat spec.exportTo[0]"]


def test_a_subset_names_a_service_and_labels() -> None:
    def subset(**spec: Any) -> list[str]:
        metadata = {"name": "v2", "namespace": "default"}
        return codes(
            {"apiVersion": "fairlead.dev/v1alpha1", "kind": "ServiceSubset", "metadata": metadata, "spec": spec}
        )

    assert subset(service="reviews", labels={"version": "v2"}) == []
    assert subset(service="reviews", labels={}) == ["TooFew spec.labels"]
    assert subset(service="a/b", labels={"a": "b"}) == ["InvalidFormat spec.service"]
    assert subset(service="reviews", labels={"a b": "c"}) == ['InvalidFormat spec.labels["a b"]']
    assert subset(service="reviews", labels={"a": "b"}, fallback=[{"labels": {"a": "c"}}, {"labels": {"d": "e"}}]) == []
    assert subset(service="reviews", labels={"a": "b"}, fallback=[{"labels": {}}]) == ["TooFew spec.fallback[0].labels"]
    odd = subset(service="reviews", labels={"a": "b"}, fallback=[{"labels": {"a b": "c"}}])
    assert odd == ['InvalidFormat spec.fallback[0].labels["a b"]']
    for fallback in ([{"a": "b"}], [{"a": "b", "c": "d"}], [{"c": "d"}, {"c": "d"}]):
        found = subset(service="reviews", labels={"a": "b"}, fallback=[{"labels": labels} for labels in fallback])
        assert found == [f"NoEffect spec.fallback[{len(fallback) - 1}].labels"]


def secret(type_: str = "kubernetes.io/tls", **fields: Any) -> Any:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cert"}, "type": type_, **fields}


CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"


def test_a_tls_secret_has_a_certificate_and_a_key_plain_or_in_base64() -> None:
    assert codes(secret(stringData={"tls.crt": CERTIFICATE, "tls.key": KEY})) == []
    data = {
        "tls.crt": base64.b64encode(CERTIFICATE.encode()).decode(),
        "tls.key": base64.encodebytes(KEY.encode()).decode(),
    }
    assert codes(secret(data=data)) == []
    assert codes(secret(stringData={"tls.crt": CERTIFICATE})) == ['MissingField data["tls.key"]']
    assert codes(secret(data={"tls.crt": "%%%"}, stringData={"tls.key": KEY})) == ['InvalidFormat data["tls.crt"]']
    assert codes(secret(stringData={"tls.crt": "hush", "tls.key": KEY})) == ['InvalidCertificate data["tls.crt"]']


def test_a_secret_has_a_bounded_size_and_named_keys() -> None:
    assert codes(secret("Opaque", stringData={"a": "b" * 1_048_577})) == ["TooLong data"]
    assert codes(secret("Opaque", stringData={"a/b": "c"})) == ['InvalidFormat stringData["a/b"]']
