"""How proxies are shown to people."""

from __future__ import annotations

from typing import Any

from fairlead.commands.proxies import TYPES, proxy_row, remarks
from fairlead.commands.proxy import acknowledged
from fairlead.views import proxy_view
from mesh.model import Audience
from xds.schema.type_urls import CODES, TYPE_CLUSTER, TYPE_LISTENER
from xds.server.states import ProxyState, TypeState

NODE = "gateway~default~edge~1"


def state(type_url: str, **more: Any) -> TypeState:
    known = {
        "status": "SYNCED", "sent": "1", "acked": "1", "wanted": "1", "resources": 2, "nonce": "1", "rejected": {},
        "detail": "", "responses": 1, "acks": 1, "nacks": 0, "left_out": {},
    }  # fmt: skip
    return TypeState(type_url=type_url, **known | more)


def shown() -> dict[str, Any]:
    """A proxy as the API's JSON has it."""
    import msgspec

    states = (
        state(TYPE_CLUSTER, left_out={"default/reviews:80": ("stats_matcher", "queuing_policies")}),
        state(TYPE_LISTENER, status="ERROR", detail="no such filter"),
    )
    view = proxy_view(
        ProxyState(NODE, Audience("gateway", "default", "edge"), 0.0, "1.38.3", "delta", states), withheld={}
    )
    wire: dict[str, Any] = msgspec.to_builtins(view)
    return wire


def test_the_table_has_a_column_for_every_type_that_is_served() -> None:
    assert sorted(TYPES) == sorted(set(CODES.values()) - {"VHDS", "RTDS"})  # which no feature needs yet


def test_what_a_proxy_is_too_old_for_is_in_its_json_by_type_and_name() -> None:
    types = shown()["types"]
    assert types["CDS"]["leftOut"] == {"default/reviews:80": ("stats_matcher", "queuing_policies")}
    assert types["LDS"]["leftOut"] == {}


def test_a_line_counts_what_is_left_out_and_a_remark_names_it_with_the_fields() -> None:
    row = proxy_row(shown())
    assert "synced 2, 1 left out" in row
    assert remarks(shown()) == [
        f"{NODE} LDS: no such filter",
        f"{NODE} CDS: default/reviews:80 is too new for it: it does not know stats_matcher, queuing_policies",
    ]


def test_a_resource_is_acknowledged_or_not_or_left_out() -> None:
    assert acknowledged({"acked": True}) == "yes"
    assert acknowledged({"acked": False}) == "no"
    assert acknowledged({"acked": False, "leftOut": ["stats_matcher"]}) == "left out"
