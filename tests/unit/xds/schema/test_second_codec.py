"""envoy-data-plane, the independent second codec: what we emit means the same there, and comes back as it was."""

from __future__ import annotations

import dataclasses
import importlib
import warnings

import pytest

from xds.schema import encode, types


def second(path):
    """A class of envoy-data-plane by full name; its import is slow and noisy, so only what is needed."""
    package, _, name = path.rpartition(".")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(importlib.import_module(f"envoy_data_plane.{package}"), name)


def assignment():
    made = types.ClusterLoadAssignment(cluster_name="default/reviews:80")
    group = made.endpoints.add(priority=1)
    group.locality.zone = "b"
    group.load_balancing_weight.value = 3
    endpoint = group.lb_endpoints.add(health_status=types.HealthStatus.HEALTHY)
    endpoint.endpoint.address.socket_address.address = "127.0.0.1"
    endpoint.endpoint.address.socket_address.port_value = 9002
    endpoint.metadata.filter_metadata["envoy.lb"].update({"version": "v2", "weights": [1, 2.5, None, True]})
    return made


def route_configuration():
    made = types.RouteConfiguration(name="http")
    host = made.virtual_hosts.add(name="reviews", domains=["reviews.example.com", "*.example.org"])
    route = host.routes.add(name="canary")
    route.match.path_separated_prefix = "/v2"
    route.match.headers.add(name="x-canary").string_match.exact = "yes"
    route.route.timeout.FromMilliseconds(1_500)
    for name, weight in (("a", 90), ("b", 10)):
        route.route.weighted_clusters.clusters.add(name=name).weight.value = weight
    route.route.retry_policy.retry_on = "5xx"
    route.route.retry_policy.num_retries.value = 0
    route.typed_per_filter_config["envoy.filters.http.cors"].Pack(types.CorsPolicy(), deterministic=True)
    return made


def delta_response():
    made = types.DeltaDiscoveryResponse(type_url="type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment")
    made.nonce = "17"
    made.removed_resources.append("gone")
    resource = made.resources.add(name="default/reviews:80", version="0123456789abcdef")
    resource.resource.Pack(assignment(), deterministic=True)
    resource.ttl.seconds = 30
    return made


def client_status():
    made = types.ClientStatusResponse()
    config = made.config.add(client_scope="scope")
    config.node.id = "gateway~default~edge~0"
    generic = config.generic_xds_configs.add(type_url="x", name="y", version_info="z", is_static_resource=True)
    generic.config_status = types.ConfigStatus.ERROR
    generic.client_status = types.ClientResourceStatus.NACKED
    generic.last_updated.seconds = 1_700_000_000
    generic.xds_config.Pack(types.Cluster(name="c"))
    generic.error_state.details = "no"
    return made


@pytest.mark.parametrize("make", [assignment, route_configuration, delta_response, client_status])
def test_what_we_emit_means_the_same_to_the_second_codec_and_comes_back_equal(make):
    ours = make()
    theirs = second(ours.DESCRIPTOR.full_name).parse(encode(ours))
    assert type(ours).FromString(bytes(theirs)) == ours


def test_the_second_codec_reads_the_values_that_were_set():
    theirs = second("envoy.config.endpoint.v3.ClusterLoadAssignment").parse(encode(assignment()))
    assert theirs.cluster_name == "default/reviews:80"
    assert theirs.endpoints[0].locality.zone == "b"
    assert theirs.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value == 9002


@pytest.mark.parametrize(
    "name",
    ["ClientStatusRequest", "ClientStatusResponse", "ClientConfig", "ClientConfig.GenericXdsConfig", "PerXdsConfig"],
)
def test_our_own_csds_proto_has_the_names_and_numbers_of_the_second_codec(name):
    from xds.schema import message

    full_name = f"envoy.service.status.v3.{name}"
    theirs = second("envoy.service.status.v3." + name.replace(".", ""))
    ours = {field.name: field.number for field in message(full_name).DESCRIPTOR.fields}
    numbers = {field.name: field.metadata["betterproto"].number for field in dataclasses.fields(theirs)}
    # Later APIs than that of the second codec may know more; nothing it knows may be missing or elsewhere.
    assert numbers.items() <= ours.items()
