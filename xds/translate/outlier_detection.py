"""Outlier detection: endpoints that fail are ejected for a while.

Only with a policy. What a policy does not name is off, where Envoy by itself would also watch consecutive 5xx, gateway
failures and success rates: who asks for one kind gets that kind. Times and shares that are not given are Envoy's own
(every 10 s, ejected 30 s longer each time, at most 10 % of the endpoints), except that one endpoint may always go,
without which two endpoints of which one fails would be a matter of luck.
"""

from __future__ import annotations

from typing import Any

from mesh.kinds.duration import milliseconds
from mesh.kinds.trafficpolicy import OutlierDetection
from xds.translate.timeouts import set_duration

_DURATIONS = ("interval", "base_ejection_time", "max_ejection_time", "max_ejection_time_jitter")
_COUNTERS = {
    "consecutive_5xx": "enforcing_consecutive_5xx",
    "consecutive_gateway_failure": "enforcing_consecutive_gateway_failure",
    "consecutive_local_origin_failure": "enforcing_consecutive_local_origin_failure",
}
_NUMBERS = (
    "success_rate_stdev_factor",
    "success_rate_minimum_hosts",
    "success_rate_request_volume",
    "failure_percentage_threshold",
    "failure_percentage_minimum_hosts",
    "failure_percentage_request_volume",
    "max_ejection_percent",
)
BASE_EJECTION_MILLISECONDS = 30_000
_ALWAYS = 100  # percent: an outlier that is found is ejected


def set_outlier_detection(cluster: Any, wanted: OutlierDetection | None) -> None:
    """Fill a cluster's outlier detection, where there is any."""
    if wanted is None:
        return
    outlier = cluster.outlier_detection
    for name, enforcing in _COUNTERS.items():
        count = getattr(wanted, name)
        if count:
            getattr(outlier, name).value = count
        getattr(outlier, enforcing).value = _ALWAYS if count else 0
    rates = any(getattr(wanted, name) is not None for name in _NUMBERS[:3])
    outlier.enforcing_success_rate.value = _ALWAYS if rates else 0
    outlier.enforcing_local_origin_success_rate.value = 0
    failures = any(getattr(wanted, name) is not None for name in _NUMBERS[3:6])
    outlier.enforcing_failure_percentage.value = _ALWAYS if failures else 0
    outlier.split_external_local_origin_errors = bool(wanted.split_external_local_origin_errors)
    for name in _NUMBERS:
        number = getattr(wanted, name)
        if number is not None:
            getattr(outlier, name).value = number
    for name in _DURATIONS:
        of = getattr(wanted, name)
        if of is not None:
            set_duration(getattr(outlier, name), milliseconds(of))
    if wanted.max_ejection_time is not None:
        # Envoy refuses a first ejection longer than the longest; they may come from two policies, or one be its own.
        base = milliseconds(wanted.base_ejection_time) if wanted.base_ejection_time else BASE_EJECTION_MILLISECONDS
        set_duration(outlier.base_ejection_time, min(base, milliseconds(wanted.max_ejection_time)))
    outlier.always_eject_one_host.value = wanted.always_eject_one_host is not False
