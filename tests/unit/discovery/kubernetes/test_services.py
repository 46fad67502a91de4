from __future__ import annotations

from typing import Any

import pytest

from discovery.kubernetes import wire
from discovery.kubernetes.services import protocol, told
from mesh.model import ServicePort
from tests.support.kubernetes_objects import service


def speaks(**port: Any) -> str:
    return protocol(wire.ServicePort(port=80, **port))


@pytest.mark.parametrize(
    ("app_protocol", "expected"),
    [
        ("http", "HTTP"),
        ("HTTP", "HTTP"),
        ("kubernetes.io/ws", "HTTP"),
        ("http2", "HTTP2"),
        ("kubernetes.io/h2c", "HTTP2"),
        ("grpc", "GRPC"),
        ("grpc-web", "HTTP"),
        ("HTTPS", "TLS"),
        ("tls", "TLS"),
        ("kubernetes.io/wss", "TLS"),
        ("tcp", "TCP"),
        ("mysql", "TCP"),
        ("example.com/own", "TCP"),
    ],
)
def test_app_protocol_says_what_a_port_speaks(app_protocol: str, expected: str) -> None:
    assert speaks(app_protocol=app_protocol, name="grpc") == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("grpc", "GRPC"),
        ("grpc-internal", "GRPC"),
        ("grpc-web-ui", "HTTP"),
        ("http2-alt", "HTTP2"),
        ("mysql", "TCP"),
        ("tcp-9000", "TCP"),
        ("https", "HTTP"),
        ("grpcish", "HTTP"),
        ("web", "HTTP"),
        ("", "HTTP"),
    ],
)
def test_without_app_protocol_a_clear_name_says_it_and_else_it_is_http(name: str, expected: str) -> None:
    assert speaks(name=name) == expected


def test_udp_is_udp_whatever_else_is_said() -> None:
    assert speaks(name="http", protocol="UDP", app_protocol="http") == "UDP"


def test_every_port_of_a_service_is_told_by_number_and_name() -> None:
    two = service("reviews", {"name": "grpc", "port": 9000}, {"name": "web", "port": 80, "targetPort": "http"})
    assert told(two).row.ports == (ServicePort("web", 80, "HTTP"), ServicePort("grpc", 9000, "GRPC"))


def test_a_single_port_may_have_no_name() -> None:
    assert told(service("reviews", {"port": 80})).row.ports == (ServicePort("", 80, "HTTP"),)


def test_tcp_and_udp_may_share_a_number() -> None:
    dns = service(
        "dns",
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
        {"name": "syslog", "port": 514, "protocol": "UDP"},
    )
    assert told(dns).row.ports == (
        ServicePort("dns-tcp", 53, "HTTP"),
        ServicePort("dns", 53, "UDP"),
        ServicePort("syslog", 514, "UDP"),
    )


def test_sctp_ports_are_left_out() -> None:
    assert told(service("sip", {"port": 5060, "protocol": "SCTP"})).row.ports == ()


def test_a_service_without_ports_is_a_service_all_the_same() -> None:
    assert told(service("headless", clusterIP="None", ports=None)).row.ports == ()


def test_labels_are_those_of_the_service() -> None:
    assert told(service(labels={"team": "b", "app": "a"})).row.labels == (("app", "a"), ("team", "b"))


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (None, ("*",)),
        ("*", ("*",)),
        ("shop, billing,", ("billing", "shop")),
        ("shop,*", ("*",)),
        (".", (".",)),
        ("", (".",)),
    ],
)
def test_a_service_is_seen_everywhere_unless_its_annotation_says_where(
    annotation: str | None, expected: tuple[str, ...]
) -> None:
    found = told(service(export_to=annotation))
    assert (found.row.export_to, found.problems) == (expected, ())


def test_what_is_no_namespace_in_the_annotation_is_told_and_widens_nothing() -> None:
    found = told(service(export_to="Shop!"))
    assert found.row.export_to == (".",)
    (problem,) = found.problems
    assert (problem.code, problem.level) == ("InvalidExportTo", "warning")


def test_an_external_name_is_where_the_service_leads() -> None:
    found = told(service(type="ExternalName", externalName="api.example.com", ipFamilies=None))
    assert (found.row.external_name, found.routed, found.problems) == ("api.example.com", False, ())


def test_external_name_means_nothing_for_another_type() -> None:
    found = told(service(type="ClusterIP", externalName="api.example.com"))
    assert (found.row.external_name, found.routed) == ("", True)


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "169.254.169.254", "::1"])
def test_an_external_name_that_leads_to_the_proxy_or_nowhere_is_refused(name: str) -> None:
    found = told(service(type="ExternalName", externalName=name))
    assert found.row.external_name == ""
    assert [problem.code for problem in found.problems] == ["InvalidExternalName"]


@pytest.mark.parametrize(("families", "expected"), [(["IPv6", "IPv4"], "IPv6"), (["IPv4"], "IPv4"), (None, "IPv4")])
def test_the_first_family_of_a_service_is_the_one_its_clients_get_first(families: Any, expected: str) -> None:
    assert told(service(ipFamilies=families)).family == expected
