"""SPIFFE IDs: every row of the specification's rules, and properties over what nobody thought of."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.spiffe import MAX_ID, InvalidSpiffeId, SpiffeId, TrustDomain, workload

MALFORMED = {
    "empty": "",
    "no scheme": "example.org/path",
    "another scheme": "https://example.org/path",
    "scheme in capitals": "SPIFFE://example.org/path",
    "scheme without authority": "spiffe:example.org/path",
    "no trust domain": "spiffe:///path",
    "nothing after the scheme": "spiffe://",
    "trust domain in capitals": "spiffe://Example.org/path",
    "a port": "spiffe://example.org:443/path",
    "an empty port": "spiffe://example.org:/path",
    "user information": "spiffe://user@example.org/path",
    "percent-encoding in the trust domain": "spiffe://example%2eorg/path",
    "an IPv6 address": "spiffe://[::1]/path",
    "a letter beyond ASCII in the trust domain": "spiffe://exämple.org/path",
    "a trust domain of 256 bytes": f"spiffe://{'a' * 256}/path",
    "a query": "spiffe://example.org/path?query",
    "an empty query": "spiffe://example.org/path?",
    "a query without a path": "spiffe://example.org?query",
    "a fragment": "spiffe://example.org/path#fragment",
    "a fragment without a path": "spiffe://example.org#fragment",
    "a slash at the end": "spiffe://example.org/path/",
    "a slash alone": "spiffe://example.org/",
    "an empty segment": "spiffe://example.org/a//b",
    "a dot segment": "spiffe://example.org/a/./b",
    "a dot-dot segment": "spiffe://example.org/a/../b",
    "a dot-dot segment at the end": "spiffe://example.org/a/..",
    "percent-encoding in the path": "spiffe://example.org/a%2Fb",
    "a space": "spiffe://example.org/a b",
    "a line break at the end": "spiffe://example.org/path\n",
    "a NUL": "spiffe://example.org/path\x00",
    "a NUL in the trust domain": "spiffe://example.org\x00.evil.org/path",
    "a letter beyond ASCII in the path": "spiffe://example.org/päth",
    "a colon in the path": "spiffe://example.org/a:b",
    "a comma": "spiffe://example.org/a,b",
    "2,049 bytes": f"spiffe://example.org/{'a' * (MAX_ID - 20)}",
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpiffeId):
        SpiffeId.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://example.org",
        "spiffe://example.org/path",
        "spiffe://example.org/Case-Matters_in.Paths",
        "spiffe://example.org/...",
        "spiffe://a_b-c.9/x",
        "spiffe://10.0.0.1/x",
        f"spiffe://{'a' * 255}/x",
        f"spiffe://example.org/{'a' * (MAX_ID - 21)}",
    ],
)
def test_a_valid_id_reads_back_as_it_was_written(text: str) -> None:
    assert str(SpiffeId.parse(text)) == text


# Written from the specification's grammar, apart from the parser's own way.
_GRAMMAR = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/(?!\.{1,2}(/|\Z))[A-Za-z0-9._-]+)*\Z")

_pieces = st.lists(
    st.sampled_from(
        ["spiffe", ":", "//", "/", ".", "..", "a", "B", "-", "_", "%2F", "?", "#", "@", "ns", "sa", "é", "\0"]
    )
    | st.text(max_size=3),
    max_size=14,
).map("".join)


@given(_pieces | _pieces.map(lambda tail: f"spiffe://{tail}") | st.text())
def test_what_the_grammar_allows_is_taken_and_nothing_else(text: str) -> None:
    allowed = bool(_GRAMMAR.match(text)) and len(text) <= MAX_ID
    try:
        parsed = SpiffeId.parse(text)
    except InvalidSpiffeId:
        assert not allowed
    else:
        assert allowed
        assert str(parsed) == text


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_workloads_id_names_that_workload_or_is_refused(namespace: str, account: str) -> None:
    try:
        found = workload(TrustDomain("example.org"), namespace, account)
    except InvalidSpiffeId:
        return
    assert (found.namespace, found.account) == (namespace, account)
    assert SpiffeId.parse(str(found)) == found


@pytest.mark.parametrize(
    ("namespace", "account"), [("a/sa/b", "c"), ("", "c"), ("a", ".."), ("a", "c\n"), ("a.*", "*")]
)
def test_a_name_that_would_name_another_workload_is_refused(namespace: str, account: str) -> None:
    """CVE-2026-39350: the name of an account was taken for a pattern, and let in others."""
    with pytest.raises(InvalidSpiffeId):
        workload(TrustDomain("example.org"), namespace, account)


@pytest.mark.parametrize(
    "text",
    ["spiffe://td", "spiffe://td/ns/a", "spiffe://td/ns/a/sa/b/c", "spiffe://td/x/ns/a/sa/b", "spiffe://td/ns/a/SA/b"],
)
def test_only_the_convention_names_a_namespace(text: str) -> None:
    parsed = SpiffeId.parse(text)
    assert parsed.namespace is None
    assert parsed.account is None


def test_the_parts_make_the_whole() -> None:
    with pytest.raises(InvalidSpiffeId):
        SpiffeId(TrustDomain("td"), "no-slash")
    assert str(TrustDomain("td").id) == "spiffe://td"
    assert SpiffeId.parse("spiffe://td/a") == SpiffeId(TrustDomain("td"), "/a")
