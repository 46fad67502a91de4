"""Which addresses may be asked for keys."""

from __future__ import annotations

import pytest

from discovery.jwks.addresses import Exceptions, may_connect, read_exceptions

NONE = Exceptions()
PRIVATE = (
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.8.9.10",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.192",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::7f00:1",
    "2002:a9fe:a9fe::1",
    "2002:7f00:1::",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "",
    "localhost",
    "0x7f000001",
    "2130706433",
    "127.1",
)


@pytest.mark.parametrize("address", PRIVATE)
def test_ghsa_fgw5_hp8f_xfhc_nothing_but_the_public_internet_is_connected_to(address: str) -> None:
    assert not may_connect("issuer.example.com", address, NONE)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_the_public_internet_is(address: str) -> None:
    assert may_connect("issuer.example.com", address, NONE)


def test_a_network_may_be_excepted_and_its_neighbour_is_not() -> None:
    found = read_exceptions(["10.1.0.0/16", "fd00:1::/64"])
    assert may_connect("any", "10.1.2.3", found)
    assert may_connect("any", "::ffff:10.1.2.3", found)
    assert may_connect("any", "fd00:1::5", found)
    assert not may_connect("any", "10.2.0.1", found)
    assert not may_connect("any", "fd00:2::5", found)


def test_a_host_may_be_excepted_by_name_but_not_for_a_machines_credentials() -> None:
    found = read_exceptions(["Keycloak.auth.svc"])
    assert may_connect("keycloak.auth.svc.", "10.96.0.7", found)
    assert may_connect("keycloak.auth.svc", "127.0.0.1", found)
    assert not may_connect("other.auth.svc", "10.96.0.7", found)
    for address in ("169.254.169.254", "168.63.129.16", "::ffff:169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1"):
        assert not may_connect("keycloak.auth.svc", address, found)
    for elsewhere in ("100.100.100.200", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"):
        assert not may_connect("keycloak.auth.svc", elsewhere, found)


@pytest.mark.parametrize("text", ["", "10.1.0.1/16", "host/16", "a:b", "999.1.1.1", "."])
def test_what_is_no_exception_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="neither a network"):
        read_exceptions([text])
