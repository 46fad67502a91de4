"""Authorizations as the API and the command line show them."""

from __future__ import annotations

from fairlead.commands.authorizations import _lines
from fairlead.views import authorization_wire
from mesh.authorization import AuthorizationRule, Authorizations, Caller, HeaderRule, Permission, TokenRule
from mesh.model import ServiceKey

DB = ServiceKey("default", "db")
PERMISSION = Permission(
    "ALLOW",
    "/v1",
    "prefix",
    ("GET", "HEAD"),
    (HeaderRule("x-user", "present"), HeaderRule("x-team", "exact", "shop", invert=True, ignore_case=True)),
    (TokenRule("okta", ((("role",), "admin"),)),),
)
RULES = Authorizations(
    (
        AuthorizationRule(Caller("web", "shop", sameness_group="g"), "", 9, (PERMISSION,)),
        AuthorizationRule(Caller("api"), "ALLOW", 9, tokens=(TokenRule("any"),), description="for now"),
        AuthorizationRule(Caller("*"), "DENY", 8),
    )
)


def test_every_part_of_a_rule_is_shown() -> None:
    assert authorization_wire(DB, RULES, None) == {
        "namespace": "default",
        "service": "db",
        "rules": [
            {
                "caller": {"name": "web", "namespace": "shop", "samenessGroup": "g"},
                "precedence": 9,
                "permissions": [
                    {
                        "action": "ALLOW",
                        "path": {"prefix": "/v1"},
                        "methods": ["GET", "HEAD"],
                        "headers": [
                            {"name": "x-user", "present": True},
                            {"name": "x-team", "exact": "shop", "invert": True, "ignoreCase": True},
                        ],
                        "tokens": [{"provider": "okta", "claims": [{"path": ["role"], "value": "admin"}]}],
                    }
                ],
            },
            {
                "caller": {"name": "api"},
                "precedence": 9,
                "action": "ALLOW",
                "tokens": [{"provider": "any", "claims": []}],
                "description": "for now",
            },
            {"caller": {"name": "*"}, "precedence": 8, "action": "DENY"},
        ],
    }


def test_of_a_caller_only_the_rule_that_decides_is_shown() -> None:
    shown = authorization_wire(DB, RULES, Caller("db"))
    assert shown["rules"] == [{"caller": {"name": "*"}, "precedence": 8, "action": "DENY"}]
    assert authorization_wire(DB, Authorizations(()), Caller("db"))["rules"] == []


def test_the_table_has_a_line_for_each_rule_and_one_for_what_is_not_understood() -> None:
    wire = authorization_wire(DB, Authorizations(RULES.rules, "it is odd"), None)
    assert list(_lines(wire)) == [
        (
            "default",
            "db",
            "shop/web (samenessGroup g)",
            "ALLOW GET HEAD path prefix /v1 header x-user header x-team with a token",
            "9",
        ),
        ("default", "db", "api", "ALLOW with a token", "9"),
        ("default", "db", "*", "DENY", "8"),
        ("default", "db", "?", "it is odd", ""),
    ]
