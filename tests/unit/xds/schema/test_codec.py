"""Bytes, digests, Any and dictionaries."""

from __future__ import annotations

import pytest
import yaml

from xds.schema import (
    SchemaError,
    any_bytes,
    encode,
    frame_any,
    from_dict,
    pack,
    to_dict,
    types,
    unpack,
    version_of,
)


def listener():
    made = types.Listener(name="http")
    made.address.socket_address.address = "127.0.0.1"
    made.address.socket_address.port_value = 10000
    manager = types.HttpConnectionManager(stat_prefix="http")
    manager.rds.route_config_name = "http"
    manager.http_filters.add(name="router").typed_config.Pack(types.Router(), deterministic=True)
    made.filter_chains.add().filters.add(name="hcm").typed_config.Pack(manager, deterministic=True)
    return made


def test_equal_messages_give_equal_bytes_whatever_the_order_of_their_maps():
    one, other = types.Metadata(), types.Metadata()
    for name in ("a", "b", "c", "d"):
        one.filter_metadata[name].update({"x": 1, "y": 2})
    for name in ("d", "c", "b", "a"):
        other.filter_metadata[name].update({"y": 2, "x": 1})
    assert encode(one) == encode(other)


def test_a_version_is_sixteen_hexadecimal_digits_and_follows_the_bytes():
    assert version_of(b"") == "e4a6a0577479b2b4"
    assert version_of(b"a") != version_of(b"b")


def test_a_packed_message_comes_back():
    packed = pack(listener())
    assert packed.type_url == "type.googleapis.com/envoy.config.listener.v3.Listener"
    assert unpack(packed) == listener()
    assert pack(listener(), "example.com/x").type_url == "example.com/x"


def test_unpacking_an_unknown_type_or_bytes_that_are_no_message_is_a_clear_error():
    with pytest.raises(SchemaError, match="no message nonsense"):
        unpack(types.Any(type_url="type.googleapis.com/nonsense"))
    with pytest.raises(SchemaError, match="are not a"):
        unpack(types.Any(type_url="type.googleapis.com/envoy.config.listener.v3.Listener", value=b"\xff"))


@pytest.mark.parametrize("content", [b"", b"x" * 127, b"x" * 128, b"x" * 70_000])
def test_a_framed_any_is_what_protobuf_writes(content):
    url = "type.googleapis.com/envoy.config.listener.v3.Listener"
    assert frame_any(url, content) == encode(types.Any(type_url=url, value=content))


def test_the_any_of_a_message_is_what_protobuf_writes():
    assert any_bytes(listener()) == encode(pack(listener()))
    assert any_bytes(types.Router()) == encode(pack(types.Router()))


def test_a_message_shown_as_a_dictionary_opens_its_anys_and_reads_back():
    shown = to_dict(listener())
    manager = shown["filter_chains"][0]["filters"][0]["typed_config"]
    assert manager["@type"].endswith("HttpConnectionManager")
    assert manager["stat_prefix"] == "http"
    assert from_dict(types.Listener, shown) == listener()
    assert yaml.safe_load(yaml.safe_dump(shown)) == shown


def test_json_names_are_lower_camel_case_and_read_back_too():
    shown = to_dict(listener(), json_names=True)
    assert "filterChains" in shown
    assert from_dict(types.Listener, shown) == listener()


def test_a_dictionary_with_an_unknown_field_or_a_wrong_type_names_it():
    with pytest.raises(SchemaError, match="nonsense"):
        from_dict(types.Listener, {"nonsense": 1})
    with pytest.raises(SchemaError, match="port_value"):
        from_dict(types.Listener, {"address": {"socket_address": {"port_value": "many"}}})
    with pytest.raises(SchemaError, match="Nonsense"):
        from_dict(types.Filter, {"typed_config": {"@type": "type.googleapis.com/envoy.Nonsense"}})


def test_showing_an_any_of_an_unknown_type_is_a_clear_error():
    with pytest.raises(SchemaError, match="cannot be shown"):
        to_dict(types.Any(type_url="type.googleapis.com/nonsense", value=b"x"))
