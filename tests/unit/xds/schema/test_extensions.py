"""What an Envoy lacks follows from its list alone, whatever else its node says."""

from __future__ import annotations

from typing import Any

from xds.schema.extensions import NEEDED, _lacking, lacking
from xds.schema.types import Node

ONE, *OTHERS = sorted(NEEDED)


def node(*types: str, disabled: str = "", **fields: Any) -> Any:
    made = Node(**fields)
    for name in types:
        extension = made.extensions.add()
        extension.name = name
        extension.type_urls.append(name)
        extension.disabled = name == disabled
    made.client_features.append("envoy.lb.does_not_support_overprovisioning")
    return made


def test_what_is_not_in_the_list_or_disabled_is_lacking() -> None:
    assert lacking(node(*OTHERS)) == {ONE}
    assert lacking(node(ONE, *OTHERS)) == frozenset()
    assert lacking(node(ONE, *OTHERS, disabled=ONE)) == {ONE}


def test_nodes_that_differ_otherwise_lack_the_same() -> None:
    told = node(*OTHERS, id="gateway~default~edge~1", cluster="a", user_agent_name="envoy", user_agent_version="1.40.0")
    told.metadata.fields["fairlead"].struct_value.fields["kind"].string_value = "gateway"
    told.locality.zone = "a"
    built = node(*OTHERS, id="gateway~default~edge~22")
    built.user_agent_build_version.version.major_number = 1
    assert lacking(told) == lacking(built) == {ONE}


def test_a_list_that_is_longer_than_any_envoys_is_read_and_not_kept() -> None:
    _lacking.cache_clear()
    assert lacking(node(*OTHERS, *("x" * 1000 + str(number) for number in range(300)))) == {ONE}
    assert _lacking.cache_info().currsize == 0
    assert lacking(node(*OTHERS)) == {ONE}
    assert _lacking.cache_info().currsize == 1


def test_of_a_node_that_lists_no_types_nothing_is_known() -> None:
    assert lacking(Node(id="x")) == frozenset()
    unnamed = Node()
    unnamed.extensions.add().name = "envoy.filters.http.router"
    assert lacking(unnamed) == frozenset()
