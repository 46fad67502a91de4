"""What agents answer of intentions. The answers of agents from 1.9 on are written after Consul's documentation."""

from __future__ import annotations

import json
from typing import Any

import pytest

from discovery.consul.intentions import of_entries, of_list
from discovery.consul.wire import UnreadableError
from mesh.authorization import (
    AuthorizationKey,
    AuthorizationRule,
    Authorizations,
    Caller,
    HeaderRule,
    Permission,
    TokenRule,
)

DB = AuthorizationKey("consul", "", "db")


def source(name: str = "web", **more: Any) -> dict[str, Any]:
    return {"Name": name, "Type": "consul", "LegacyCreateTime": None, **more}


def entry(*sources: dict[str, Any], **more: Any) -> bytes:
    whole = {"Kind": "service-intentions", "Name": "db", "CreateIndex": 7, "ModifyIndex": 9, **more}
    return json.dumps([{**whole, "Sources": list(sources)}]).encode()


def permission(action: str = "allow", **http: Any) -> dict[str, Any]:
    return {"Action": action, "HTTP": http}


def test_old_agents_list_one_intention_for_each_pair() -> None:
    body = json.dumps([
        {"ID": "1", "SourceNS": "default", "SourceName": "*", "DestinationNS": "default", "DestinationName": "db",
         "SourceType": "consul", "Action": "deny", "Precedence": 8, "Meta": {}, "DefaultPort": 0},
        {"ID": "2", "SourceNS": "default", "SourceName": "web", "DestinationNS": "default", "DestinationName": "db",
         "SourceType": "consul", "Action": "allow", "Precedence": 9, "Meta": {}, "Description": "the shop"},
    ]).encode()  # fmt: skip
    web = AuthorizationRule(Caller("web"), "ALLOW", 9, description="the shop")
    assert of_list(body) == {DB: Authorizations((web, AuthorizationRule(Caller("*"), "DENY", 8)))}
    assert of_list(b"null") == of_list(b"[]") == {}


def test_an_entry_has_its_sources_in_the_order_of_precedence() -> None:
    rows = of_entries(entry(source("*", Action="deny", Precedence=8), source(Action="allow", Precedence=9)))
    rules = (AuthorizationRule(Caller("web"), "ALLOW", 9), AuthorizationRule(Caller("*"), "DENY", 8))
    assert rows == {DB: Authorizations(rules)}


@pytest.mark.parametrize(
    ("called", "calls", "precedence"),
    [
        (("default", "db"), ("default", "web"), 9),
        (("default", "db"), ("default", "*"), 8),
        (("default", "db"), ("*", "*"), 7),
        (("default", "*"), ("default", "web"), 6),
        (("default", "*"), ("default", "*"), 5),
        (("default", "*"), ("*", "*"), 4),
        (("*", "*"), ("default", "web"), 3),
        (("*", "*"), ("default", "*"), 2),
        (("*", "*"), ("*", "*"), 1),
    ],
)
def test_precedence_is_that_of_consuls_table_where_it_is_not_said(
    called: tuple[str, str], calls: tuple[str, str], precedence: int
) -> None:
    body = entry(source(calls[1], Namespace=calls[0], Action="allow"), Name=called[1], Namespace=called[0])
    [row] = of_entries(body).values()
    assert [rule.precedence for rule in row.rules] == [precedence]


def test_namespaces_partitions_and_peers_are_kept_and_consuls_default_namespace_is_none() -> None:
    body = entry(
        source(Namespace="shop", Partition="east", Action="allow"),
        source("api", Namespace="default", Peer="west", Action="allow"),
        source("all", SamenessGroup="group", Action="allow"),
        Namespace="team",
    )
    [(key, row)] = of_entries(body).items()
    assert key == AuthorizationKey("consul", "team", "db")
    assert {rule.caller for rule in row.rules} == {
        Caller("web", "shop", "east"),
        Caller("api", peer="west"),
        Caller("all", sameness_group="group"),
    }


def test_permissions_say_what_of_a_request_must_match() -> None:
    headers = [
        {"Name": "x-user", "Present": True},
        {"Name": "x-team", "Exact": "shop", "Invert": True},
        {"Name": "x-path", "Regex": "^/a", "IgnoreCase": True},
    ]
    first = permission("deny", PathExact="/admin")
    second = permission(PathPrefix="/v1", Methods=["GET", "HEAD"], Header=headers)
    [row] = of_entries(entry(source(Precedence=9, Permissions=[first, second, permission(PathRegex="/r.*")]))).values()
    assert row.rules == (
        AuthorizationRule(
            Caller("web"),
            "",
            9,
            (
                Permission("DENY", "/admin", "exact"),
                Permission(
                    "ALLOW",
                    "/v1",
                    "prefix",
                    ("GET", "HEAD"),
                    (
                        HeaderRule("x-user", "present"),
                        HeaderRule("x-team", "exact", "shop", invert=True),
                        HeaderRule("x-path", "regex", "^/a", ignore_case=True),
                    ),
                ),
                Permission("ALLOW", "/r.*", "regex"),
            ),
        ),
    )


def test_tokens_that_an_entry_or_a_permission_asks_for_are_kept() -> None:
    jwt = {"Providers": [{"Name": "okta", "VerifyClaims": [{"Path": ["perms", "role"], "Value": "admin"}]}]}
    permissions = [permission(PathPrefix="/") | {"JWT": jwt}]
    body = entry(source(Permissions=permissions), JWT={"Providers": [{"Name": "any"}]})
    [row] = of_entries(body).values()
    assert row.rules[0].tokens == (TokenRule("any"),)
    assert row.rules[0].permissions[0].tokens == (TokenRule("okta", ((("perms", "role"), "admin"),)),)


@pytest.mark.parametrize(
    "odd",
    [
        source(Permissions=[permission(PathPrefix="/", FromTheFuture=True)]),
        source(Permissions=[permission(Header=[{"Name": "x", "Suffices": "y"}])]),
        source(Permissions=[permission(Header=[{"Name": "x"}])]),
        source(Permissions=[permission("perhaps")]),
        source(Action="perhaps"),
        source(),
    ],
)
def test_an_entry_that_is_not_understood_is_told_and_not_taken_for_less_than_it_says(odd: dict[str, Any]) -> None:
    both = json.loads(entry(odd)) + json.loads(entry(source(Action="allow"), Name="cache"))
    rows = of_entries(json.dumps(both).encode())
    assert rows[DB].rules == ()
    assert "'db'" in rows[DB].unreadable
    assert len(rows[AuthorizationKey("consul", "", "cache")].rules) == 1


@pytest.mark.parametrize("body", [b"[{", b"{}", b"[1]", b'"x"', b"\xff", b'[{"Kind": "service-intentions"}]'])
def test_what_is_no_list_of_intentions_is_unreadable(body: bytes) -> None:
    for read in (of_entries, of_list):
        with pytest.raises(UnreadableError, match="intentions cannot be read"):
            read(body)
