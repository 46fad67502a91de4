"""Circuit breakers: what may be under way to a cluster at once.

Without a policy connections, pending and parallel requests have no limit: Envoy's default of 1,024 makes a busy gateway
answer 503 out of nowhere, and a limit belongs to a policy that somebody wrote. Retries keep a budget of 20 % of the
active requests (at least 3), so that retries cannot amplify an overload.
"""

from __future__ import annotations

from typing import Any

from mesh.kinds.trafficpolicy import CircuitBreaker, RetryBudget

NO_LIMIT = 2**32 - 1
_NONE = CircuitBreaker()
_BUDGET = RetryBudget()


def set_circuit_breakers(cluster: Any, breaker: CircuitBreaker | None) -> None:
    """Fill a cluster's circuit breakers."""
    wanted = breaker or _NONE
    thresholds = cluster.circuit_breakers.thresholds.add()
    thresholds.max_connections.value = _limit(wanted.max_connections)
    thresholds.max_pending_requests.value = _limit(wanted.max_pending_requests)
    thresholds.max_requests.value = _limit(wanted.max_requests)
    if wanted.max_retries is not None:
        thresholds.max_retries.value = wanted.max_retries
    else:
        budget = wanted.retry_budget or _BUDGET
        thresholds.retry_budget.budget_percent.value = budget.percent
        thresholds.retry_budget.min_retry_concurrency.value = budget.min_concurrency
    if wanted.max_connection_pools is not None:
        thresholds.max_connection_pools.value = wanted.max_connection_pools
    if wanted.max_connections_per_endpoint is not None:
        per_host = cluster.circuit_breakers.per_host_thresholds.add()
        per_host.max_connections.value = wanted.max_connections_per_endpoint


def _limit(limit: int | None) -> int:
    return NO_LIMIT if limit is None else limit
