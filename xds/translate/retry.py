"""Retries: what a rule asks for, and the little that every virtual host does by itself.

By itself, Envoy sends a request again only when it certainly has not reached a backend: the connection failed, the
stream was refused, or it was reset before anything was sent. That hides an endpoint that just went away, and can never
run a request twice. A rule's `retry` replaces it and includes resets (an echo-server reset in the conformance suite
answers 200 only with `reset`), which is what somebody who writes `retry` asks for.
"""

from __future__ import annotations

from typing import Any

from mesh.kinds.duration import milliseconds
from mesh.kinds.httproute import DEFAULT_ATTEMPTS, HTTPRouteRetry
from mesh.kinds.trafficpolicy import TrafficRetry
from xds.schema import message, pack
from xds.translate.timeouts import set_duration

UNSENT = "connect-failure,refused-stream,reset-before-request"
FAILED = "connect-failure,refused-stream,reset"

_PREVIOUS_HOSTS = "envoy.retry_host_predicates.previous_hosts"
_PREVIOUS_HOSTS_CONFIG = pack(message("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")())
_PREVIOUS_PRIORITIES = "envoy.retry_priorities.previous_priorities"
_PreviousPriorities = message("envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig")
_SELECTION_ATTEMPTS = 10  # of two endpoints the one that failed is then picked again once in 2,000 times


def set_default_retry(policy: Any, *, per_try_timeout: int | None = None) -> None:
    """Fill a virtual host's or a route's `RetryPolicy`; `per_try_timeout` in milliseconds, None or 0 for none."""
    policy.retry_on = UNSENT
    policy.num_retries.value = DEFAULT_ATTEMPTS
    if per_try_timeout:
        set_duration(policy.per_try_timeout, per_try_timeout)
    _avoid_previous_hosts(policy)


def set_retry(policy: Any, retry: HTTPRouteRetry, *, per_try_timeout: int | None) -> None:
    """Fill a route's `RetryPolicy`; `per_try_timeout` in milliseconds, None for none."""
    policy.retry_on = f"{FAILED},retriable-status-codes" if retry.codes else FAILED
    policy.retriable_status_codes.extend(sorted(set(retry.codes)))
    policy.num_retries.value = retry.repeated
    if retry.backoff is not None and (interval := milliseconds(retry.backoff)):
        set_duration(policy.retry_back_off.base_interval, interval)
    if per_try_timeout:
        set_duration(policy.per_try_timeout, per_try_timeout)
    _avoid_previous_hosts(policy)


def set_policy_retry(policy: Any, retry: TrafficRetry) -> None:
    """Fill a cluster's `RetryPolicy` from a TrafficPolicy; what that leaves out is as for a route's `retry`."""
    conditions: list[str] = (
        list(retry.conditions) if retry.conditions is not None else [] if retry.codes else FAILED.split(",")
    )
    if retry.codes:
        conditions.append("retriable-status-codes")
    policy.retry_on = ",".join(conditions)
    policy.retriable_status_codes.extend(sorted(set(retry.codes or ())))
    policy.num_retries.value = retry.repeated
    if retry.backoff is not None:
        set_duration(policy.retry_back_off.base_interval, milliseconds(retry.backoff.base))
        if retry.backoff.max is not None:
            set_duration(policy.retry_back_off.max_interval, milliseconds(retry.backoff.max))
    if retry.avoid_tried_hosts is not False:
        _avoid_previous_hosts(policy)
    if retry.attempts_per_priority is not None:
        priorities = _PreviousPriorities()
        priorities.update_frequency = retry.attempts_per_priority
        policy.retry_priority.name = _PREVIOUS_PRIORITIES
        policy.retry_priority.typed_config.CopyFrom(pack(priorities))


def _avoid_previous_hosts(policy: Any) -> None:
    predicate = policy.retry_host_predicate.add()
    predicate.name = _PREVIOUS_HOSTS
    predicate.typed_config.CopyFrom(_PREVIOUS_HOSTS_CONFIG)
    policy.host_selection_retry_max_attempts = _SELECTION_ATTEMPTS
