"""The table of what holds without any policy is true of the golden cases that have none."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
import yaml

from tests.docs.pages import ROOT
from xds.schema import message

PAGE = ROOT / "docs" / "reference" / "defaults.md"
GOLDEN = ROOT / "tests" / "golden"
CASES = ("smallest-example", "https")
_ROW = re.compile(r"^\| (?!what|-|\*\*)(?P<what>[^|]+) \| [^|]+ \|(?P<envoy>[^|]*)\| [^|]+ \|$", re.MULTILINE)
_FIELD = re.compile(r"`(?P<of>[A-Z]\w+)\.(?P<path>[\w.]+): (?P<value>[^`]+)`")
UNSET = "unset"
MESSAGES = {
    "Cluster": "envoy.config.cluster.v3.Cluster",
    "HttpConnectionManager": ("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
    "Route": "envoy.config.route.v3.Route",
}


@cache
def made(case: str) -> dict[str, Any]:
    """The messages of a case without policies, by the names that the page calls them."""
    folder = GOLDEN / case
    assert "Policy" not in (folder / "in.yaml").read_text()
    [gateway] = yaml.safe_load((folder / "out.yaml").read_text())["audiences"].values()
    [listener, *_] = gateway["LDS"].values()
    chain = listener["filter_chains"][0]
    scopes = [one["route_configuration"].get("virtual_hosts", []) for one in gateway["SRDS"].values()]
    hosts = [host for found in scopes for host in found if "routes" in host]
    found = {
        "HttpConnectionManager": chain["filters"][0]["typed_config"],
        "Cluster": next(iter(gateway["CDS"].values())),
        "VirtualHost": hosts[0],
        "Route": hosts[0]["routes"][0],
        "Bootstrap": yaml.safe_load((ROOT / "envoy-configs" / "gateway.yaml").read_text()),
    }
    socket = chain.get("transport_socket")
    return {**found, **({"TLS": socket["typed_config"]} if socket else {})}


def rows() -> dict[str, list[tuple[str, str, str]]]:
    """What the page says: row → the message, path and value of each field."""
    return {row["what"]: _FIELD.findall(row["envoy"]) for row in _ROW.finditer(PAGE.read_text())}


def at(found: Any, path: str) -> Any:
    """What a message has there, None where it has nothing."""
    for name in path.split("."):
        if isinstance(found, list):
            found = found[int(name)] if int(name) < len(found) else None
        else:
            found = found.get(name) if found is not None else None
    return found


def test_each_row_says_where_envoy_has_it() -> None:
    assert len(rows()) > 25
    assert [what for what, fields in rows().items() if not fields] == ["memory"]
    assert len(re.findall(r"`[A-Z]\w+\.[a-z]", PAGE.read_text())) == sum(map(len, rows().values()))


def test_what_is_said_to_be_unset_is_a_field_of_envoys() -> None:
    for fields in rows().values():
        for of, path, value in fields:
            *above, last = path.split(".")
            if value == UNSET:
                known = message(MESSAGES[of]).DESCRIPTOR
                for name in above:
                    known = known.fields_by_name[name].message_type
                assert last in known.fields_by_name, f"{of}.{path}"


@pytest.mark.parametrize("what", [what for what, fields in rows().items() if fields])
def test_what_the_table_says_is_what_envoy_gets(what: str) -> None:
    for of, path, value in rows()[what]:
        cases = [made(case)[of] for case in CASES if of in made(case)]
        assert cases
        found = [at(one, path) for one in cases]
        assert found == [None if value == UNSET else yaml.safe_load(value)] * len(cases), f"{of}.{path}"
