"""Message classes by full and by short name."""

from __future__ import annotations

import threading

import pytest

from xds.schema import SchemaError, enum, message, types


def test_a_message_class_is_the_same_every_time():
    assert message("envoy.config.cluster.v3.Cluster") is message("envoy.config.cluster.v3.Cluster")
    assert types.Cluster is message("envoy.config.cluster.v3.Cluster")


def test_threads_that_ask_at_once_get_the_same_class():
    start, found = threading.Barrier(8), []

    def ask():
        start.wait(timeout=10)
        found.append(message("envoy.config.endpoint.v3.Endpoint"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert len(found) == 8
    assert len(set(found)) == 1


def test_an_unknown_message_or_enum_is_a_clear_error():
    with pytest.raises(SchemaError, match=r"no message envoy\.Nonsense"):
        message("envoy.Nonsense")
    with pytest.raises(SchemaError, match=r"no enum envoy\.Nonsense"):
        enum("envoy.Nonsense")
    with pytest.raises(SchemaError, match="no message"):
        message("envoy.config.core.v3.HealthStatus")


@pytest.mark.parametrize("short", sorted(types.NAMES))
def test_every_short_name_is_in_the_schema_of_envoy(short):
    found = getattr(types, short)
    assert found.DESCRIPTOR.full_name == types.NAMES[short]
    assert hasattr(found.DESCRIPTOR, "values") == (short in types.ENUMS)


def test_no_two_short_names_mean_the_same_message():
    assert len(set(types.NAMES.values())) == len(types.NAMES)


def test_an_enum_gives_plain_numbers():
    assert types.HealthStatus.HEALTHY == 1
    assert types.Cluster.EDS == 3


def test_a_short_name_that_is_not_listed_says_how_to_reach_the_message():
    with pytest.raises(AttributeError, match=r"xds\.schema\.message"):
        _ = types.Nonsense


def test_the_services_that_fairlead_offers_are_in_the_schema():
    from xds.schema.pool import loaded_pool

    services = {
        "envoy.service.discovery.v3.AggregatedDiscoveryService": {
            "StreamAggregatedResources",
            "DeltaAggregatedResources",
        },
        "envoy.service.cluster.v3.ClusterDiscoveryService": {"StreamClusters", "DeltaClusters", "FetchClusters"},
        "envoy.service.load_stats.v3.LoadReportingService": {"StreamLoadStats"},
        "envoy.service.secret.v3.SecretDiscoveryService": {"StreamSecrets", "DeltaSecrets", "FetchSecrets"},
        "envoy.service.status.v3.ClientStatusDiscoveryService": {"StreamClientStatus", "FetchClientStatus"},
    }
    for name, methods in services.items():
        assert {method.name for method in loaded_pool().FindServiceByName(name).methods} == methods
