"""Which addresses may be connected to when a user says where keys are: those of the public internet, and exceptions.

Whoever may write a policy could otherwise have this program ask its own network, above all the services that tell a
machine its credentials (GHSA-fgw5-hp8f-xfhc). What counts is the address that a connection really goes to, after DNS
and for each redirect anew, so that a name which answers differently the second time gains nothing. Addresses of IPv6
that stand for one of IPv4 are judged as that.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

import msgspec

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Where a cloud answers its own machines, beside link-local addresses. Azure's and Oracle's are public by their numbers;
# Alibaba's, Amazon's (for machines and for pods) and Google's lie in private networks, which may hold an excepted host.
_METADATA: Final[frozenset[Address]] = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "168.63.129.16",
        "192.0.0.192",
        "100.100.100.200",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
    )
)
# What `is_global` of some Pythons takes for public (IANA's special-purpose registries); all of IPv6 that is public.
_SPECIAL: Final = tuple(ipaddress.ip_network(text) for text in ("192.0.0.0/24", "192.88.99.0/24"))
_UNICAST: Final = ipaddress.ip_network("2000::/3")
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE: Final = ipaddress.ip_network("::/96")
_LOW_32_BITS: Final = 0xFFFFFFFF


class Exceptions(msgspec.Struct, frozen=True):
    """What may be connected to although it is not public: whole networks, and whatever private address a host has."""

    networks: tuple[Network, ...] = ()
    hosts: frozenset[str] = frozenset()


def read_exceptions(texts: Iterable[str]) -> Exceptions:
    """Exceptions as people write them: `10.1.0.0/16`, `fd00::/64`, `keycloak.auth.svc`.

    Raises:
        ValueError: one is neither; says which.
    """
    networks: list[Network] = []
    hosts: set[str] = set()
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError:
            host = text.lower().rstrip(".")
            if "/" in host or ":" in host or not host or host.replace(".", "").isdigit():
                raise ValueError(f"{text!r} is neither a network (10.1.0.0/16) nor the name of a host") from None
            hosts.add(host)
    return Exceptions(tuple(networks), frozenset(hosts))


def may_connect(host: str, address: str, exceptions: Exceptions) -> bool:
    """Whether a connection for a host may go to an address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    judged = [found, *_within(found)]
    if any(one in network for network in exceptions.networks for one in judged if one.version == network.version):
        return True
    if all(_is_public(one) for one in judged):
        return True
    excepted = host.lower().rstrip(".") in exceptions.hosts
    return excepted and not any(_is_nobodys(one) for one in judged)


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address not in _UNICAST:
        # One that stands for an address of IPv4 is judged as that.
        return bool(_within(address)) and not address.is_loopback and not address.is_unspecified
    special = any(address in network for network in _SPECIAL if network.version == address.version)
    return address.is_global and not address.is_multicast and not special and address not in _METADATA


def _is_nobodys(address: Address) -> bool:
    """What no named exception opens: a machine's credentials, and what is no address of a host."""
    return address.is_link_local or address.is_multicast or address.is_unspecified or address in _METADATA


def _within(address: Address) -> list[Address]:
    """The addresses of IPv4 that one of IPv6 stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found: list[Address | None] = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64 or address in _COMPATIBLE:
        found.append(ipaddress.IPv4Address(int(address) & _LOW_32_BITS))
    return [one for one in found if one is not None]
