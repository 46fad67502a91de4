"""Envoy's field rules in Python, and real Envoy's verdicts on the same messages."""

from __future__ import annotations

import subprocess
import sys

import pytest

from xds.schema import SchemaError, encode, message, types
from xds.schema.extract import installed_binary
from xds.schema.pool import loaded_pool
from xds.schema.rules import Violation, _plan, violations
from xds.schema.versions import unknown_to


def bootstrap():
    """A small bootstrap that Envoy accepts: a listener with an HTTP connection manager, and a cluster."""
    made = types.Bootstrap()
    listener = made.static_resources.listeners.add(name="http")
    listener.address.socket_address.address = "127.0.0.1"
    listener.address.socket_address.port_value = 10000
    listener.filter_chains.add().filters.add(name="hcm").typed_config.Pack(manager())
    made.static_resources.clusters.add(name="reviews").connect_timeout.seconds = 1
    return made


def manager():
    made = types.HttpConnectionManager(stat_prefix="http")
    host = made.route_config.virtual_hosts.add(name="all", domains=["*"])
    route = host.routes.add()
    route.match.prefix = "/"
    route.route.cluster = "reviews"
    made.http_filters.add(name="router").typed_config.Pack(types.Router())
    return made


def replace_manager(made, made_manager):
    made.static_resources.listeners[0].filter_chains[0].filters[0].typed_config.Pack(made_manager)


def envoy_accepts(made, tmp_path):
    path = tmp_path / "bootstrap.pb"
    path.write_bytes(encode(made))
    command = [str(installed_binary()), "--mode", "validate", "-c", str(path), "-l", "critical"]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


def no_port_above_65535(made):
    made.static_resources.listeners[0].address.socket_address.port_value = 70_000


def no_address(made):
    made.static_resources.listeners[0].address.Clear()


def no_name_of_a_cluster(made):
    made.static_resources.clusters[0].name = ""


def negative_connect_timeout(made):
    made.static_resources.clusters[0].connect_timeout.seconds = -1


def unknown_lb_policy(made):
    made.static_resources.clusters[0].lb_policy = 99


def zero_interval_of_outlier_detection(made):
    made.static_resources.clusters[0].outlier_detection.interval.seconds = 0


def outlier_percentage_above_100(made):
    made.static_resources.clusters[0].outlier_detection.max_ejection_percent.value = 101


def health_check_without_thresholds(made):
    check = made.static_resources.clusters[0].health_checks.add()
    check.timeout.seconds = check.interval.seconds = 1
    check.tcp_health_check.SetInParent()


def no_stat_prefix(made):
    broken = manager()
    broken.stat_prefix = ""
    replace_manager(made, broken)


def no_route_specifier(made):
    broken = manager()
    broken.ClearField("route_config")
    replace_manager(made, broken)


def no_domains(made):
    broken = manager()
    del broken.route_config.virtual_hosts[0].domains[:]
    replace_manager(made, broken)


def line_feed_in_a_domain(made):
    broken = manager()
    broken.route_config.virtual_hosts[0].domains[0] = "a\nb"
    replace_manager(made, broken)


def separated_prefix_that_ends_in_a_slash(made):
    broken = manager()
    broken.route_config.virtual_hosts[0].routes[0].match.path_separated_prefix = "/a/"
    replace_manager(made, broken)


def direct_response_status_600(made):
    broken = manager()
    broken.route_config.virtual_hosts[0].routes[0].direct_response.status = 600
    replace_manager(made, broken)


def retry_back_off_without_base_interval(made):
    broken = manager()
    broken.route_config.virtual_hosts[0].routes[0].route.retry_policy.retry_back_off.SetInParent()
    replace_manager(made, broken)


def empty_header_name(made):
    broken = manager()
    broken.route_config.request_headers_to_add.add().header.value = "x"
    replace_manager(made, broken)


def any_of_an_unknown_type(made):
    broken = manager()
    broken.http_filters[0].typed_config.type_url = "type.googleapis.com/envoy.Nonsense"
    replace_manager(made, broken)


HCM = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config"
HOST = f"{HCM}.route_config.virtual_hosts[0]"
BROKEN = {
    no_port_above_65535: ("static_resources.listeners[0].address.socket_address.port_value", "uint32.lte"),
    no_address: ("static_resources.listeners[0].address.address", "oneof.required"),
    no_name_of_a_cluster: ("static_resources.clusters[0].name", "string.min_len"),
    negative_connect_timeout: ("static_resources.clusters[0].connect_timeout", "duration.gt"),
    unknown_lb_policy: ("static_resources.clusters[0].lb_policy", "enum.defined_only"),
    zero_interval_of_outlier_detection: ("static_resources.clusters[0].outlier_detection.interval", "duration.gt"),
    outlier_percentage_above_100: (
        "static_resources.clusters[0].outlier_detection.max_ejection_percent",
        "uint32.lte",
    ),
    health_check_without_thresholds: (
        "static_resources.clusters[0].health_checks[0].unhealthy_threshold",
        "message.required",
    ),
    no_stat_prefix: (f"{HCM}.stat_prefix", "string.min_len"),
    no_route_specifier: (f"{HCM}.route_specifier", "oneof.required"),
    no_domains: (f"{HOST}.domains", "repeated.min_items"),
    line_feed_in_a_domain: (f"{HOST}.domains[0]", "repeated.items.string.well_known_regex"),
    separated_prefix_that_ends_in_a_slash: (f"{HOST}.routes[0].match.path_separated_prefix", "string.pattern"),
    direct_response_status_600: (f"{HOST}.routes[0].direct_response.status", "uint32.lt"),
    retry_back_off_without_base_interval: (
        f"{HOST}.routes[0].route.retry_policy.retry_back_off.base_interval",
        "duration.required",
    ),
    empty_header_name: (f"{HCM}.route_config.request_headers_to_add[0].header.key", "string.min_len"),
    any_of_an_unknown_type: (f"{HCM}.http_filters[0].typed_config", "any.type"),
}


@pytest.mark.envoy
def test_what_breaks_no_rule_is_accepted_by_envoy(tmp_path):
    assert violations(bootstrap()) == []
    assert envoy_accepts(bootstrap(), tmp_path)


@pytest.mark.envoy
@pytest.mark.parametrize("spoil", BROKEN, ids=lambda spoil: spoil.__name__)
def test_what_breaks_a_rule_is_named_here_and_rejected_by_envoy(spoil, tmp_path):
    made = bootstrap()
    spoil(made)
    found = violations(made)
    assert BROKEN[spoil] in {(violation.path, violation.rule) for violation in found}
    assert all(violation.detail for violation in found)
    assert not envoy_accepts(made, tmp_path)


def every_message():
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    from xds.schema import descriptors

    pending = []
    for file in descriptors.load():
        name = FileDescriptorProto.FromString(file).name
        pending.extend(loaded_pool().FindFileByName(name).message_types_by_name.values())
    while pending:
        descriptor = pending.pop()
        if not descriptor.GetOptions().map_entry:
            yield descriptor
        pending.extend(descriptor.nested_types)


def test_every_rule_kind_in_the_schema_of_envoy_is_known():
    compiled = 0
    for descriptor in every_message():
        _plan(descriptor.full_name)  # raises on a kind that is not known
        compiled += 1
    assert compiled > 1_500


def test_every_message_of_envoy_can_be_checked_when_empty():
    for descriptor in every_message():
        for violation in violations(message(descriptor.full_name)()):
            assert violation.path
            assert violation.detail


def test_a_wrapper_is_checked_when_set_and_not_when_absent():
    assert violations(types.OutlierDetection()) == []
    broken = types.OutlierDetection()
    broken.success_rate_minimum_hosts.value = 0
    assert violations(broken) == []
    broken.enforcing_success_rate.value = 200
    assert violations(broken) == [Violation("enforcing_success_rate", "uint32.lte", "must be at most 100, is 200")]


def test_a_oneof_member_is_checked_only_when_it_is_chosen():
    made = types.DataSource()
    assert [violation.rule for violation in violations(made)] == ["oneof.required"]
    made.inline_string = ""
    assert violations(made) == []
    made.filename = ""
    assert [violation.rule for violation in violations(made)] == ["string.min_len"]


def test_keys_and_values_of_maps_are_checked():
    made = types.Metadata()
    made.filter_metadata[""].SetInParent()
    assert [(violation.path, violation.rule) for violation in violations(made)] == [
        ("filter_metadata['']", "map.keys.string.min_len")
    ]
    report = message("xds.data.orca.v3.OrcaLoadReport")(utilization={"a": 0.5, "b": 1.5})
    assert [(violation.path, violation.rule) for violation in violations(report)] == [
        ("utilization['b']", "map.values.double.lte")
    ]


def test_items_and_uniqueness_of_lists_are_checked():
    made = types.InternalRedirectPolicy(response_headers_to_copy=["a", "a", "b\n"])
    assert [(violation.path, violation.rule) for violation in violations(made)] == [
        ("response_headers_to_copy", "repeated.unique"),
        ("response_headers_to_copy[2]", "repeated.items.string.well_known_regex"),
    ]
    assert [violation.path for violation in violations(types.HealthStatusSet(statuses=[1, 77]))] == ["statuses[1]"]


def test_lengths_count_characters_or_bytes_as_the_rule_says():
    limit = 16_384
    pair = message("envoy.config.core.v3.KeyValue")
    assert violations(pair(key="é" * (limit // 2))) == []
    assert [violation.rule for violation in violations(pair(key="é" * (limit // 2 + 1)))] == ["string.max_bytes"]


def test_a_rule_that_ignores_empty_values_lets_the_default_pass():
    addend = message("envoy.config.route.v3.RateLimit.HitsAddend")
    assert violations(addend()) == []
    assert [violation.rule for violation in violations(addend(format="5"))] == ["string.prefix", "string.suffix"]
    assert violations(addend(format="%REQ(x)%")) == []


def test_an_any_whose_bytes_are_no_message_of_its_type_is_named():
    made = types.Filter(name="x")
    made.typed_config.type_url = types.NAMES["HttpConnectionManager"]
    made.typed_config.value = b"\xff\xff"
    assert [(violation.path, violation.rule) for violation in violations(made)] == [("typed_config", "any.value")]


def test_strings_never_appear_in_what_is_said_about_them():
    made = types.HeaderValue(key="x", value="hunter2\n")
    (violation,) = violations(made)
    assert "hunter2" not in violation.detail


@pytest.fixture
def usual_recursion_limit():
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000)
    yield
    sys.setrecursionlimit(limit)


@pytest.mark.usefixtures("usual_recursion_limit")
def test_bottomless_nesting_is_a_violation_and_no_crash():
    made = types.TypedExtensionConfig(name="x")
    for _ in range(2_000):
        outer = types.TypedExtensionConfig(name="x")
        outer.typed_config.Pack(made)
        made = outer
    assert [violation.rule for violation in violations(made)] == ["any.depth"]
    with pytest.raises(SchemaError, match="too deeply"):
        unknown_to("1.38.0", made)
