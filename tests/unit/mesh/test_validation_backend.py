"""The rules of Backend: every hostile destination is found, with its path and a way out, and what is right passes."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.validation import validate


def codes(**spec: Any) -> list[str]:
    raw = {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "Backend",
        "metadata": {"name": "shop", "namespace": "default"},
        "spec": spec,
    }
    problems = validate(raw).problems
    assert all(problem.message and problem.fix for problem in problems)
    return [f"{problem.code} {problem.path}".removesuffix(" ") for problem in problems]


def of_name(hostname: str) -> list[str]:
    return codes(endpoints=[{"fqdn": {"hostname": hostname, "port": 443}}])


def of_address(address: str) -> list[str]:
    return codes(endpoints=[{"ip": {"address": address, "port": 443}}])


def of_path(path: str) -> list[str]:
    return codes(endpoints=[{"unix": {"path": path}}])


def test_each_way_of_saying_where_is_good() -> None:
    assert of_name("api.example.com") == of_name("vm") == of_name("xn--bcher-kva.example") == []
    assert of_address("203.0.113.7") == of_address("10.0.0.7") == of_address("2001:db8::7") == []
    assert of_path("/run/shop/http.sock") == []
    assert codes(dynamicResolver={"hostnames": ["*.example.com", "example.org"]}) == []
    both = [{"fqdn": {"hostname": "a.example.com", "port": 1}}, {"ip": {"address": "203.0.113.7", "port": 65535}}]
    assert codes(endpoints=both, protocol="TCP") == []


def test_there_is_exactly_one_way() -> None:
    assert codes() == ["MissingField spec.endpoints"]
    assert codes(endpoints=[{}]) == ["MissingField spec.endpoints[0]"]
    fqdn, path = {"hostname": "a.example.com", "port": 80}, {"path": "/run/a.sock"}
    assert codes(endpoints=[{"fqdn": fqdn, "unix": path}])[0] == "NotAllowed spec.endpoints[0]"
    assert codes(endpoints=[{"fqdn": fqdn}, {"unix": path}]) == ["NotAllowed spec.endpoints"]
    assert codes(endpoints=[{"fqdn": fqdn}, {"fqdn": fqdn}]) == ["Duplicate spec.endpoints[1]"]
    resolver = {"hostnames": ["*.example.com"]}
    assert codes(endpoints=[{"fqdn": fqdn}], dynamicResolver=resolver) == ["NotAllowed spec.dynamicResolver"]
    assert codes(protocol="TCP", dynamicResolver=resolver) == ["NotAllowed spec.protocol"]
    assert codes(protocol="UDP", endpoints=[{"fqdn": fqdn}]) == ["NotAllowed spec.endpoints[0]"]


@pytest.mark.parametrize("port", [0, 65536, -1, "80", True])
def test_a_port_is_a_port(port: Any) -> None:
    found = codes(endpoints=[{"ip": {"address": "203.0.113.7", "port": port}}])
    assert [problem.partition(" ")[2] for problem in found] == ["spec.endpoints[0].ip.port"]


@pytest.mark.parametrize(
    "hostname",
    [
        *("localhost", "a.localhost", "localhost.localdomain", "ip6-localhost"),
        *("metadata.google.internal", "instance-data.ec2.internal"),
        *("127.0.0.1", "2130706433", "127.1", "0x7f000001", "0x7f.1", "example.0x7f", "017700000001"),
        *(
            "LOCALHOST",
            "example.com.",
            "*.example.com",
            "a..b",
            "a_b",
            "a b",
            "a\n",
            "a/b",
            "a:80",
            "[::1]",
            "",
            "ä.de",
        ),
        *("x" * 64, f"{'x' * 64}.example.com", "a." * 200 + "com"),
    ],
)
def test_a_name_that_is_none_or_leads_to_the_proxy_itself_is_refused(hostname: str) -> None:
    found = of_name(hostname)
    assert [problem.partition(" ")[2] for problem in found] == ["spec.endpoints[0].fqdn.hostname"]


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"),
        *("169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "169.254.170.2", "100.100.100.200"),
        *("168.63.129.16", "fd00:ec2::254", "169.254.1.1", "fe80::1", "fe80::1%eth0", "203.0.113.7%eth0"),
        *("0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:0.0.0.0"),
        *("127.1", "0177.0.0.1", "010.0.0.1", "2130706433", "example.com", "1.2.3.4:80", " 1.2.3.4", "1.2.3.4\n", ""),
    ],
)
def test_an_address_that_is_none_or_leads_to_the_proxy_itself_or_a_metadata_service_is_refused(address: str) -> None:
    found = of_address(address)
    assert [problem.partition(" ")[2] for problem in found] == ["spec.endpoints[0].ip.address"]


@pytest.mark.parametrize(
    "path",
    [
        *("run/a.sock", "@abstract", "/run/../run/docker.sock", "/run//a.sock", "//run/a.sock", "/run/a/", "/run/./a"),
        *("/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock", "/proc/1/root/run/a.sock"),
        *("/run/a\0b", "/run/a\nb", "/" + "x" * 107, "/" + "ä" * 60, "/", ""),
    ],
)
def test_a_path_that_is_no_plain_one_or_controls_the_host_is_refused(path: str) -> None:
    found = of_path(path)
    assert [problem.partition(" ")[2] for problem in found] == ["spec.endpoints[0].unix.path"]


@pytest.mark.parametrize("hostname", ["*", "*.com", "localhost", "*.localhost", "127.0.0.1", "*.0.0.1", "a.*.com"])
def test_a_dynamic_resolver_is_never_an_open_proxy(hostname: str) -> None:
    found = codes(dynamicResolver={"hostnames": [hostname]})
    assert [problem.partition(" ")[2] for problem in found] == ["spec.dynamicResolver.hostnames[0]"]
    assert codes(dynamicResolver={"hostnames": []})
    assert codes(dynamicResolver={})


def test_a_reference_to_a_backend_needs_no_port_and_is_told_that_one_has_no_effect() -> None:
    ref = {"group": "fairlead.dev", "kind": "Backend", "name": "shop"}
    for more, wanted in (({}, []), ({"port": 80}, ["NoEffect spec.rules[0].backendRefs[0].port"])):
        raw = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "r"},
            "spec": {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [{**ref, **more}]}]},
        }
        checked = validate(raw)
        assert checked.object is not None
        assert [f"{one.code} {one.path}" for one in checked.problems] == wanted
