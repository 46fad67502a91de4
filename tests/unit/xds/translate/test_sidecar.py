"""The hosts by which workloads name services."""

from __future__ import annotations

from mesh.model import ServiceKey
from xds.translate.sidecar import domains

REVIEWS = ServiceKey("default", "reviews")


def test_a_service_has_its_short_name_in_its_own_namespace_only() -> None:
    assert "reviews" in domains(REVIEWS, 80, of=[80], namespace="default")
    assert "reviews" not in domains(REVIEWS, 80, of=[80], namespace="shop")


def test_a_host_without_a_port_means_port_80_if_there_is_one() -> None:
    assert "reviews" in domains(REVIEWS, 80, of=[79, 80], namespace="default")
    assert "reviews" not in domains(REVIEWS, 79, of=[79, 80], namespace="default")
    assert "reviews:79" in domains(REVIEWS, 79, of=[79, 80], namespace="default")


def test_a_host_without_a_port_means_the_first_http_port_otherwise() -> None:
    assert "reviews" in domains(REVIEWS, 8080, of=[9090, 8080], namespace="default")
    assert "reviews" not in domains(REVIEWS, 9090, of=[9090, 8080], namespace="default")


def test_no_two_services_ever_have_a_host_in_common() -> None:
    keys = [
        ServiceKey(namespace, name) for namespace in ("a", "b", "svc") for name in ("a", "b", "svc", "a.b", "a.svc")
    ]
    hosts = [host for key in keys for host in domains(key, 80, of=[80], namespace="b")]
    assert len(hosts) == len(set(hosts))
