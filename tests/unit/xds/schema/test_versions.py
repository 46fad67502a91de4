"""What older Envoys do not understand."""

from __future__ import annotations

import json

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from xds.schema import SchemaError, compare, message, types
from xds.schema.pool import loaded_pool
from xds.schema.versions import oldest, unknown_to

TABLES = sorted(compare.LACKS.glob("*.json"))


def listener(**of_manager):
    made = types.Listener(name="http")
    manager = types.HttpConnectionManager(stat_prefix="http", **of_manager)
    made.filter_chains.add().filters.add(name="hcm").typed_config.Pack(manager)
    return made


def test_the_envoy_we_speak_knows_everything():
    assert unknown_to("1.40.0", listener(record_route_resolution_stats=True)) == []


def test_a_field_inside_an_any_that_an_older_envoy_lacks_is_found():
    made = listener(record_route_resolution_stats=True)
    assert unknown_to("1.39.3", made) == ["filter_chains[0].filters[0].typed_config.record_route_resolution_stats"]
    assert unknown_to("1.38.0", made) == ["filter_chains[0].filters[0].typed_config.record_route_resolution_stats"]
    assert unknown_to("1.39.3", listener()) == []


def test_a_field_that_came_with_1_39_is_unknown_to_1_38_only():
    made = types.RouteConfiguration(name="http")
    route = made.virtual_hosts.add(name="all", domains=["*"]).routes.add()
    route.route.retry_policy.refresh_cluster_on_retry = True
    assert unknown_to("1.39.3", made) == []
    assert unknown_to("1.38.3", made) == ["virtual_hosts[0].routes[0].route.retry_policy.refresh_cluster_on_retry"]


def test_an_any_of_a_type_that_an_older_envoy_lacks_is_found_and_in_a_map_too():
    made = types.Route()
    limit = message("envoy.extensions.filters.http.body_size_limit.v3.BodySizeLimit")
    made.typed_per_filter_config["limit"].Pack(limit())
    assert unknown_to("1.39.0", made) == ["typed_per_filter_config['limit']"]
    assert unknown_to("1.40.0", made) == []


def test_an_enum_value_that_an_older_envoy_lacks_is_found():
    made = message("envoy.extensions.filters.http.mcp.v3.Mcp")()
    made.traffic_mode = made.NOOP
    assert unknown_to("1.39.3", made) == ["traffic_mode"]


def test_an_envoy_older_than_every_table_lacks_what_the_oldest_table_says():
    made = listener(record_route_resolution_stats=True)
    assert oldest() == "1.38"
    assert unknown_to("1.20.1", made) == unknown_to("1.38.0", made) != []


@pytest.mark.parametrize("version", ["", "garbage", "1", "1.x.0", "1.41.0", "2.0.0"])
def test_a_newer_or_unreadable_version_is_taken_to_know_everything(version):
    assert unknown_to(version, listener(record_route_resolution_stats=True)) == []


def test_what_is_no_message_of_ours_is_left_to_the_rules():
    made = types.Filter(name="x")
    made.typed_config.type_url = "type.googleapis.com/envoy.Nonsense"
    assert unknown_to("1.38.0", made) == []


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_every_row_of_a_table_is_in_the_schema_that_we_speak(path):
    table = json.loads(path.read_bytes())
    for name in table["messages"]:
        assert loaded_pool().FindMessageTypeByName(name)
    for name, fields in table["fields"].items():
        assert set(fields) <= set(message(name).DESCRIPTOR.fields_by_name)
    for name, values in table["enum_values"].items():
        assert set(values) <= set(loaded_pool().FindEnumTypeByName(name).values_by_name)


def test_an_older_table_lacks_all_that_a_newer_one_lacks_in_messages_both_have():
    older, newer = (json.loads(path.read_bytes()) for path in TABLES)
    assert set(newer["messages"]) <= set(older["messages"])
    for name, fields in newer["fields"].items():
        assert name in older["messages"] or set(fields) <= set(older["fields"][name])


def files(text):
    from google.protobuf import text_format

    return [text_format.Parse(f'name: "a" package: "a" {text}', FileDescriptorProto())]


def test_comparing_finds_messages_fields_changed_types_and_enum_values():
    older = files(
        """
        message_type { name: "M" field { name: "kept" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
                                 field { name: "changed" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL }
                                 field { name: "gone" number: 9 type: TYPE_STRING label: LABEL_OPTIONAL }
                       enum_type { name: "E" value { name: "OLD" number: 0 } } }
        """
    )
    newer = files(
        """
        message_type { name: "M" field { name: "kept" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
                                 field { name: "changed" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL }
                                 field { name: "added" number: 3 type: TYPE_STRING label: LABEL_OPTIONAL }
                       enum_type { name: "E" value { name: "OLD" number: 0 } value { name: "NEW" number: 1 } }
                       nested_type { name: "Inner" } }
        """
    )
    assert compare.lacking(older, newer) == {
        "messages": ["a.M.Inner"],
        "fields": {"a.M": ["added", "changed"]},
        "enum_values": {"a.M.E": ["NEW"]},
    }
    assert compare.lacking(newer, newer) == {"messages": [], "fields": {}, "enum_values": {}}


def test_comparing_with_what_is_no_envoy_is_a_clear_error(tmp_path):
    (tmp_path / "binary").write_bytes(b"\x7fELF nothing in here")
    with pytest.raises(SchemaError, match="is it an Envoy"):
        compare.main("1.37", str(tmp_path / "binary"))
