"""An Envoy bootstrap that holds an audience's resources in itself: what translation makes, tried without any server.

References to ADS are replaced by what ADS would have delivered: endpoints into clusters, route configurations,
scopes and filters' configurations into connection managers, certificates into static secrets. Nothing else is changed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from xds.schema.type_urls import (
    TYPE_CLUSTER,
    TYPE_ENDPOINT,
    TYPE_EXTENSION_CONFIG,
    TYPE_LISTENER,
    TYPE_ROUTE,
    TYPE_SCOPED_ROUTE,
    TYPE_SECRET,
)

Resources = Mapping[str, list[dict[str, Any]]]


def agent_cluster(path: str) -> dict[str, Any]:
    """The cluster that proxies with an agent get their certificate from; one that has no secrets from it waits."""
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    endpoint = {"address": {"pipe": {"path": path}}}
    return {
        "name": "fairlead_agent",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "fairlead_agent",
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
        "typed_extension_protocol_options": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }


def static_bootstrap(resources: Resources, *, admin_port: int) -> dict[str, Any]:
    """The bootstrap of these resources, as `xds.translate.offline.translate` gives them."""
    listeners = copy.deepcopy([each for each in resources[TYPE_LISTENER] if "api_listener" not in each])
    for listener in listeners:
        for chain in listener.get("filter_chains", ()):
            _inline_certificates(chain)
            for filter_ in chain["filters"]:
                _inline_routes(filter_["typed_config"], resources)
                _inline_filters(filter_["typed_config"], resources)
    return {
        "node": {"id": "static", "cluster": "static"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin_port}}},
        "static_resources": {
            "listeners": listeners,
            "clusters": [
                agent_cluster("/nowhere/sds.sock"),
                *(_cluster(each, resources) for each in resources[TYPE_CLUSTER]),
            ],
            "secrets": resources[TYPE_SECRET],
        },
    }


def _cluster(cluster: dict[str, Any], resources: Resources) -> dict[str, Any]:
    cluster = copy.deepcopy(cluster)
    _inline_certificates(cluster)
    _inline_credentials(cluster)
    if cluster.get("type") != "EDS":
        return cluster
    found = {each["cluster_name"]: each for each in resources[TYPE_ENDPOINT]}
    static = {key: value for key, value in cluster.items() if key != "eds_cluster_config"}
    return {**static, "type": "STATIC", "load_assignment": found[cluster["name"]]}


def _inline_certificates(owner: dict[str, Any]) -> None:
    """Let a filter chain or a cluster take its secrets from those that are static."""
    config = owner.get("transport_socket", {}).get("typed_config", {})
    context = config.get("downstream_tls_context", config).get("common_tls_context", {})  # QUIC wraps it
    for config in context.get("tls_certificate_sds_secret_configs", ()):
        if "ads" in config["sds_config"]:
            del config["sds_config"]
    combined = context.get("combined_validation_context", {})
    for config in (context, combined):
        trust = config.get("validation_context_sds_secret_config", {})
        if "ads" in trust.get("sds_config", {}):
            del trust["sds_config"]


def _inline_credentials(cluster: dict[str, Any]) -> None:
    for options in cluster.get("typed_extension_protocol_options", {}).values():
        for filter_ in options.get("http_filters", ()):
            credential = filter_["typed_config"].get("credential", {}).get("typed_config", {}).get("credential", {})
            credential.pop("sds_config", None)


def _inline_routes(manager: dict[str, Any], resources: Resources) -> None:
    if "rds" in manager:
        name = manager.pop("rds")["route_config_name"]
        manager["route_config"] = next(each for each in resources[TYPE_ROUTE] if each["name"] == name)
    if "scoped_routes" in manager:
        del manager["scoped_routes"]["scoped_rds"]
        scopes = resources[TYPE_SCOPED_ROUTE]
        manager["scoped_routes"]["scoped_route_configurations_list"] = {"scoped_route_configurations": scopes}


def _inline_filters(manager: dict[str, Any], resources: Resources) -> None:
    configs = {each["name"]: each["typed_config"] for each in resources[TYPE_EXTENSION_CONFIG]}
    for filter_ in manager.get("http_filters", ()):
        if filter_.pop("config_discovery", None) is not None:
            filter_["typed_config"] = configs[filter_["name"]]
