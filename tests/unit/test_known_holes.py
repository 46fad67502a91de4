"""The ways in which others were broken, as far as identities and secrets are concerned: each has a test by its number.

The list is that of the research behind the design (security-and-policy.md, 7.2). What concerns routes, policies and
Envoy's own code is not in it.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
HOLES = {
    "CVE-2020-1764": "a key that everybody knows stands in for one that nobody gave",
    "CVE-2020-8843": "who calls stands in a header that the caller can send",
    "CVE-2020-16844": "an identity is compared in part",
    "CVE-2021-34824": "a secret is answered from a cache whose key leaves out who asks",
    "CVE-2022-21654": "a session is resumed past a certificate that was taken back",
    "CVE-2022-21656": "a name of another kind is taken for the identity",
    "CVE-2022-23635": "what nobody has vouched for ends the control plane",
    "CVE-2022-24726": "the same, in a webhook",
    "CVE-2022-39278": "the same, by its size",
    "CVE-2025-66220": "a name with NUL in it is read as a shorter one",
    "CVE-2026-31837": "without keys of the issuer anybody's token is good",
    "CVE-2026-31838": "what the control plane shows of itself has keys in it",
    "CVE-2026-39350": "a dot in the name of an account stands for any character",
    "CVE-2026-47778": "the kind of a name in a certificate is not looked at",
    "CVE-2026-48042": "JSON nested without end",
    "GHSA-fgw5-hp8f-xfhc": "an address that users name leads into the control plane's own network",
}


@cache
def _named() -> str:
    texts = (path.read_text() for path in TESTS.rglob("test_*.py") if path != Path(__file__))
    found = re.findall(r"(?:CVE|cve|GHSA|ghsa)[-_][0-9a-z_-]+", "\n".join(texts))
    return " ".join(one.replace("_", "-").upper() for one in found)


@pytest.mark.parametrize("number", HOLES)
def test_every_hole_of_others_has_a_test_that_names_it(number: str) -> None:
    assert re.search(rf"\b{number.upper()}\b", _named()), f"no test names {number}: {HOLES[number]}"
