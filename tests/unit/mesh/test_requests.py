from __future__ import annotations

import pytest

from mesh.requests import host_of, normalised, request


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("/%61b/%2e%2e/x", "/x"),
        ("/a/./b/../c", "/a/c"),
        ("//a///b", "/a/b"),
        ("/a//../b", "/a/b"),
        ("/a\\b", "/a/b"),
        ("/a%2Fb", "/a%2Fb"),
        ("/a%5Cb", "/a%5Cb"),
        ("/%7Ea", "/~a"),
        ("/a/%2E./b", "/b"),
        ("/..//../x", "/x"),
        ("/foo/..", "/"),
        ("/a/.", "/a/"),
        ("/a//", "/a/"),
        ("/a|b", "/a%7Cb"),
        ("/%41%2D", "/A-"),
        ('/"<>`{}|^[]*@!$&()+,=:', "/%22%3C%3E%60%7B%7D%7C%5E[]*@!$&()+,=:"),
        ("/%2d%5f%7e%21%40", "/-_~%21%40"),
        ("/%c3%a9", "/%c3%a9"),
        ("/", "/"),
    ],
)
def test_paths_are_normalised_as_envoy_1_40_does(sent: str, seen: str) -> None:
    assert normalised(sent) == seen


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("A.example.com:8080", "a.example.com"),
        ("a.example.com", "a.example.com"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
        ("a.com:", "a.com"),
    ],
)
def test_the_port_is_no_part_of_the_host(authority: str, host: str) -> None:
    assert host_of(authority) == host


def test_a_host_header_replaces_the_url_s_host_and_not_the_server_name() -> None:
    asked = request("get", "https://a.com:8443/x?p=1&p=2&q", [("Host", "B.com:1"), ("X-Y", " z ")])
    assert (asked.method, asked.sni, asked.host, asked.port) == ("GET", "a.com", "b.com", 8443)
    assert asked.header("x-y") == ("z",)
    assert asked.header("host") == ("B.com:1",)
    assert (asked.query_param("p"), asked.query_param("q"), asked.query_param("r")) == ("1", "", None)


def test_query_parameters_are_not_decoded() -> None:
    assert request("GET", "http://a/?q=a%20b").query_param("q") == "a%20b"


@pytest.mark.parametrize(
    "url", ["", "a.com", "/x", "ftp://a.com", "http://", "http://a:99999/", "http://[::1/", "http://a:b/"]
)
def test_what_is_no_url_is_refused_with_a_sentence(url: str) -> None:
    with pytest.raises(ValueError, match="is not a URL to explain"):
        request("GET", url)
