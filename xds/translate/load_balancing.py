"""Load balancing: which endpoint a request goes to.

Without a policy it is `least_request` (two random choices): it steers away from slow endpoints, which round robin
cannot. Envoy is told so by a number. Anything else, and all that proxyless gRPC is told, is a list, the most wanted
first, of which a client takes the first that it knows: gRPC lacks most of them, and refuses a number that it lacks.
Every list ends in round robin, which all clients know. A list of two is 288 bytes where the rest of a cluster without a
policy is 100, and a sidecar gets a thousand clusters.

Consistent hashing takes what it hashes by in the load balancer itself, not in routes: a policy on one backend then
touches that cluster alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from mesh.kinds.duration import milliseconds
from mesh.kinds.trafficpolicy import HashOn, LoadBalancer, Orca, SlowStart
from xds.schema import message, pack
from xds.schema.types import (
    ClientSideWeightedRoundRobin,
    Cluster,
    LeastRequest,
    Maglev,
    OverrideHost,
    Random,
    RingHash,
    RoundRobin,
)
from xds.translate.endpoint_selection import selecting
from xds.translate.timeouts import set_duration

_HashPolicy = message("envoy.config.route.v3.RouteAction.HashPolicy")
LoadBalancingPolicy = message("envoy.config.cluster.v3.LoadBalancingPolicy")
_NONE = LoadBalancer()
_AGGRESSION_RUNTIME_KEY = "fairlead.slow_start.aggression"
_DEFAULT_PANIC_THRESHOLD = 50

_ROUND_ROBIN = pack(RoundRobin())
_DEFAULT = (("least_request", pack(LeastRequest())), ("round_robin", _ROUND_ROBIN))


def set_load_balancing(cluster: Any, balancer: LoadBalancer | None, *, grpc: bool = False) -> None:
    """Fill a cluster's load balancing; `grpc`: it is for proxyless clients."""
    if balancer is None and not grpc:
        cluster.lb_policy = Cluster.LEAST_REQUEST
        return
    _fill(cluster.load_balancing_policy, _DEFAULT if balancer is None else _overriding(balancer))
    threshold = balancer.panic_threshold if balancer is not None else None
    if threshold is not None and threshold != _DEFAULT_PANIC_THRESHOLD:
        cluster.common_lb_config.healthy_panic_threshold.value = threshold


def _fill(policy: Any, wanted: Iterable[tuple[str, Any]]) -> None:
    for kind, packed in wanted:
        config = policy.policies.add().typed_extension_config
        config.name = f"envoy.load_balancing_policies.{kind}"
        config.typed_config.CopyFrom(packed)


def _overriding(balancer: LoadBalancer) -> Iterator[tuple[str, Any]]:
    """What chooses an endpoint, where requests do not; a client that lacks their way to choose has only that."""
    if balancer.endpoint_selection is not None:
        chosen = LoadBalancingPolicy()
        _fill(chosen, _wanted(balancer))
        by_locality = balancer.locality is not None and bool(balancer.locality.weights)
        yield "subset", selecting(chosen, by_locality=by_locality)
    if balancer.endpoint_override is not None:
        config = OverrideHost()
        for header in balancer.endpoint_override.headers:
            config.override_host_sources.add().header = header.lower()
        _fill(config.fallback_policy, _wanted(balancer))
        yield "override_host", pack(config)
    yield from _wanted(balancer)


def _wanted(balancer: LoadBalancer) -> Iterator[tuple[str, Any]]:
    kind = balancer.type or "LeastRequest"
    yield _BUILDERS[kind](balancer)
    if kind == "Maglev":  # gRPC has no Maglev but this
        yield _ring_hash(balancer)
    if kind != "RoundRobin":
        yield _round_robin(_only_locality(balancer))


def _only_locality(balancer: LoadBalancer) -> LoadBalancer:
    return LoadBalancer(locality=balancer.locality) if balancer.locality is not None else _NONE


def _least_request(balancer: LoadBalancer) -> tuple[str, Any]:
    config = LeastRequest()
    if balancer.choice_count is not None:
        config.choice_count.value = balancer.choice_count
    _set_slow_start(config, balancer.slow_start)
    _set_locality(config, balancer)
    return "least_request", pack(config)


def _round_robin(balancer: LoadBalancer) -> tuple[str, Any]:
    config = RoundRobin()
    _set_slow_start(config, balancer.slow_start)
    _set_locality(config, balancer)
    return "round_robin", pack(config)


def _random(balancer: LoadBalancer) -> tuple[str, Any]:
    config = Random()
    _set_locality(config, balancer)
    return "random", pack(config)


def _ring_hash(balancer: LoadBalancer) -> tuple[str, Any]:
    config = RingHash()
    hashing = balancer.consistent_hash
    if hashing is not None and hashing.minimum_ring_size is not None:
        config.minimum_ring_size.value = hashing.minimum_ring_size
    if hashing is not None and hashing.maximum_ring_size is not None:
        config.maximum_ring_size.value = hashing.maximum_ring_size
    _set_hashing(config, balancer)
    return "ring_hash", pack(config)


def _maglev(balancer: LoadBalancer) -> tuple[str, Any]:
    config = Maglev()
    hashing = balancer.consistent_hash
    if hashing is not None and hashing.table_size is not None:
        config.table_size.value = hashing.table_size
    _set_hashing(config, balancer)
    return "maglev", pack(config)


def _client_side_weighted(balancer: LoadBalancer) -> tuple[str, Any]:
    config = ClientSideWeightedRoundRobin()
    orca = balancer.orca or Orca()
    config.enable_oob_load_report.value = orca.out_of_band
    for name, of in (
        ("oob_reporting_period", orca.reporting_period),
        ("blackout_period", orca.blackout_period),
        ("weight_expiration_period", orca.weight_expiration_period),
        ("weight_update_period", orca.weight_update_period),
    ):
        if of is not None:
            set_duration(getattr(config, name), milliseconds(of))
    if orca.error_utilization_penalty is not None:
        config.error_utilization_penalty.value = orca.error_utilization_penalty
    config.metric_names_for_computing_utilization.extend(orca.metric_names)
    _set_slow_start(config, balancer.slow_start)
    return "client_side_weighted_round_robin", pack(config)


_BUILDERS: Mapping[str, Callable[[LoadBalancer], tuple[str, Any]]] = {
    "LeastRequest": _least_request,
    "RoundRobin": _round_robin,
    "Random": _random,
    "RingHash": _ring_hash,
    "Maglev": _maglev,
    "ClientSideWeightedRoundRobin": _client_side_weighted,
}


def _set_slow_start(config: Any, slow: SlowStart | None) -> None:
    if slow is None:
        return
    set_duration(config.slow_start_config.slow_start_window, milliseconds(slow.window))
    config.slow_start_config.aggression.default_value = slow.aggression
    config.slow_start_config.aggression.runtime_key = _AGGRESSION_RUNTIME_KEY
    config.slow_start_config.min_weight_percent.value = slow.min_weight_percent


def _set_locality(config: Any, balancer: LoadBalancer) -> None:
    """Places share by their weights only where a policy gives them some; else all endpoints of a priority are alike."""
    if balancer.locality is not None and balancer.locality.weights:
        config.locality_lb_config.locality_weighted_lb_config.SetInParent()


def _set_hashing(config: Any, balancer: LoadBalancer) -> None:
    if balancer.locality is not None and balancer.locality.weights:
        config.locality_weighted_lb_config.SetInParent()
    hashing = balancer.consistent_hash
    if hashing is None:
        return
    common = config.consistent_hashing_lb_config
    if hashing.balance_factor is not None:
        common.hash_balance_factor.value = hashing.balance_factor
    for item in hashing.hash_on or ():
        common.hash_policy.add().CopyFrom(hash_policy(item))


def hash_policy(item: HashOn) -> Any:
    """One of Envoy's hash policies."""
    policy = _HashPolicy()
    if item.header is not None:
        policy.header.header_name = item.header.lower()
    elif item.cookie is not None:
        policy.cookie.name = item.cookie.name
        if item.cookie.ttl is not None:
            set_duration(policy.cookie.ttl, milliseconds(item.cookie.ttl))
        if item.cookie.path is not None:
            policy.cookie.path = item.cookie.path
    elif item.query_parameter is not None:
        policy.query_parameter.name = item.query_parameter
    else:
        policy.connection_properties.source_ip = True
    policy.terminal = item.terminal
    return policy
