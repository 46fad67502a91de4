from __future__ import annotations

import pytest

from fairlead.addresses import Address, parse_address
from fairlead.errors import UsageError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:18000", Address("127.0.0.1", 18000)),
        ("[::1]:0", Address("::1", 0)),
        (" fairlead.example:443 ", Address("fairlead.example", 443)),
    ],
)
def test_an_address_is_read_and_written_the_same(text: str, address: Address) -> None:
    assert parse_address(text, what="--xds") == address
    assert str(address) == text.strip()


@pytest.mark.parametrize("text", ["", "18000", "127.0.0.1", "127.0.0.1:", ":80", "::1:80", "a:99999", "a:-1", "a:٣"])
def test_what_is_no_address_is_refused_under_the_name_of_its_flag(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--xds: "):
        parse_address(text, what="--xds")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("localhost.evil.example", False),
    ],
)
def test_only_this_machine_counts_as_loopback(host: str, loopback: bool) -> None:
    assert Address(host, 1).is_loopback is loopback
