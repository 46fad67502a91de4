from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from discovery.consul.http import Target
from fairlead.errors import UsageError
from fairlead.settings import Settings
from fairlead.stores.store_place import consul_place, default_store_path, store_path


def test_a_prefix_of_consul_is_an_agent_and_where_in_its_kv(tmp_path: Path) -> None:
    plain = Settings(store="consul://127.0.0.1/fairlead")
    assert consul_place(plain) == (Target(url="http://127.0.0.1:8500"), "fairlead")
    token = tmp_path / "token"
    token.write_text("t")
    whole = Settings(store="consul+https://[::1]:9501/a/b?dc=dc2&ns=n&partition=p", store_token_file=str(token))
    target = Target(url="https://[::1]:9501", token_file=str(token), datacenter="dc2", namespace="n", partition="p")
    assert consul_place(whole) == (target, "a/b")


@pytest.mark.parametrize(
    "store",
    [
        "consul://",
        "consul:///fairlead",
        "consul://127.0.0.1:8500",
        "consul://127.0.0.1:8500/",
        "consul://127.0.0.1:99999/fairlead",
        "consul://127.0.0.1:8500/a//b",
        "consul://127.0.0.1:8500/a b",
        "consul://127.0.0.1:8500/../agent",
        "consul://127.0.0.1:8500/a/..",
        "consul://127.0.0.1:8500/a/./b",
        "consul://user:secret@127.0.0.1:8500/fairlead",
        "consul://127.0.0.1:8500/fairlead?token=secret",
        "consul://127.0.0.1:8500/fairlead#x",
    ],
)
def test_what_names_no_prefix_is_refused_with_the_form(store: str) -> None:
    with pytest.raises(UsageError, match=r"Fix: write consul://HOST:PORT/PREFIX") as refusal:
        consul_place(Settings(store=store))
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"store_cert": "c.pem"}, "belong together"),
        ({"store_ca": "ca.pem"}, r"consul\+https"),
        ({"store_token_file": "/nowhere/token"}, "cannot be read"),
    ],
)
def test_what_does_not_fit_beside_it_is_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        consul_place(Settings(store="consul://127.0.0.1:8500/fairlead", **more))


def test_what_is_for_consul_alone_is_refused_beside_a_file() -> None:
    with pytest.raises(UsageError, match=r"--store-token-file is for a store in Consul"):
        store_path(Settings(store="sqlite:/tmp/f.db", store_token_file="token"))


def test_beside_a_shared_store_a_local_file_remains(tmp_path: Path) -> None:
    shared = "consul://127.0.0.1:8500/fairlead"
    assert store_path(Settings(store=shared, store_local=str(tmp_path / "l.db"))) == tmp_path / "l.db"
    assert store_path(Settings(store=shared), {"HOME": "/h"}) == default_store_path({"HOME": "/h"})
