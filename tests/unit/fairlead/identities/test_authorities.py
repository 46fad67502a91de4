"""What `--ca` may say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fairlead.errors import UsageError
from fairlead.identities.authorities import check, lifetimes
from fairlead.settings import Settings

PASSPHRASE = {"ca_passphrase": "correct horse battery"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ca": "folder:"}, "is no authority"),
        ({"ca": "memory:x"}, "is no authority"),
        ({"ca": "vauld:x"}, "is no authority"),
        ({"ca": "folder:/nowhere/at/all"}, "fairlead ca init"),
        ({"ca": "files:/nowhere/at/all"}, "mount"),
        ({"ca": "store"}, "--ca-passphrase-file"),
        ({"ca": "store", "ca_passphrase": "short"}, "12"),
        ({"ca": "store", **PASSPHRASE, "ca_passphrase_file": "x"}, "two are given"),
        ({"ca": "store", "ca_passphrase_file": "/nowhere"}, "/nowhere"),
        ({"ca": "vault:http://v#pki/mesh"}, "--ca-token-file"),
        ({"ca": "vault:http://v", "ca_token_file": "x"}, "URL#MOUNT/ROLE"),
        ({"ca": "kubernetes:a/b", "ca_roots": "x"}, "--kubernetes"),
        ({"ca": "kubernetes:a/b", "kubernetes": ("in-cluster",)}, "--ca-roots"),
        ({"ca": "memory", "ca_leaf_lifetime": 60.0}, "--ca-leaf-lifetime-min"),
        ({"ca": "memory", "ca_leaf_lifetime_max": 7200.0}, "--ca-leaf-lifetime-max"),
        ({"ca_jwt_keys": "store"}, "--ca names who signs"),
        ({"ca": "memory", "ca_jwt_keys": "store"}, "a built-in authority keeps its own"),
        ({"ca": "files:/", "ca_jwt_keys": "store"}, "--ca-passphrase-file"),
        ({"ca": "files:/", "ca_jwt_keys": "memory", **PASSPHRASE}, "names no place"),
        ({"ca": "files:/", "ca_jwt_keys": "secret:x", **PASSPHRASE}, "with --kubernetes"),
        ({"ca": "files:/", "ca_jwt_keys": "secret:", "kubernetes": ("a",), **PASSPHRASE}, "names no place"),
        ({"bundle_endpoint": "127.0.0.1:1"}, "Fix: --ca"),
        ({"ca": "memory", "bundle_cert": "x"}, "belong together"),
        ({"federate": ("cluster.local=https://x",)}, "our own trust domain"),
        ({"federate": ("a=https://x", "a=https://y")}, "stands twice"),
    ],
)
def test_settings_that_name_no_authority_are_refused(settings: dict[str, Any], words: str) -> None:
    """CVE-2020-1764: a key that everybody knew stood in for one that nobody had given. No passphrase: no start."""
    with pytest.raises(UsageError, match=words):
        check(Settings(**settings))


def test_settings_that_name_one_are_taken(tmp_path: Path) -> None:
    for settings in (
        {},
        {"ca": "memory"},
        {"ca": "store", **PASSPHRASE},
        {"ca": f"folder:{tmp_path}", **PASSPHRASE},
        {"ca": f"files:{tmp_path}"},
        {"ca": f"files:{tmp_path}", "ca_jwt_keys": "store", **PASSPHRASE},
        {"ca": f"files:{tmp_path}", "ca_jwt_keys": "secret:keys", "kubernetes": ("in-cluster",), **PASSPHRASE},
        {"ca": "vault:https://v:8200#pki/int/mesh", "ca_token_file": "x"},
        {"ca": "kubernetes:a/b", "kubernetes": ("in-cluster",), "ca_roots": "x"},
        {"federate": ("a=https://x",)},
    ):
        check(Settings(**settings))  # type: ignore[arg-type]


def test_lives_are_those_of_the_settings() -> None:
    found = lifetimes(Settings(ca_leaf_lifetime=10.0, ca_leaf_lifetime_min=5.0))
    assert [one.total_seconds() for one in (found.default, found.shortest, found.longest)] == [10, 5, 604_800]
    assert lifetimes(Settings()).default.total_seconds() == 86_400
