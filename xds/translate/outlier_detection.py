"""Outlier detection: endpoints that fail are ejected for a while.

Only with a policy. What a policy does not name is off, where Envoy by itself would also watch consecutive 5xx, gateway
failures and success rates: who asks for one kind gets that kind. Times and shares that are not given are Envoy's own
(every 10 s, ejected 30 s longer each time, at most 10 % of the endpoints), except that one endpoint may always go,
without which two endpoints of which one fails would be a matter of luck.
"""

from __future__ import annotations

from typing import Any

from mesh.kinds.duration import milliseconds
from mesh.kinds.trafficpolicy import CONSECUTIVE, FAILURE_PERCENTAGE, SUCCESS_RATE, OutlierDetection
from xds.translate.timeouts import set_duration

_DURATIONS = ("interval", "base_ejection_time", "max_ejection_time", "max_ejection_time_jitter")
BASE_EJECTION_MILLISECONDS = 30_000
_ALWAYS = 100  # percent: an outlier that is found is ejected


def set_outlier_detection(cluster: Any, wanted: OutlierDetection | None) -> None:
    """Fill a cluster's outlier detection, where there is any."""
    if wanted is None:
        return
    outlier = cluster.outlier_detection
    for name in CONSECUTIVE:
        count = getattr(wanted, name)
        if count:
            getattr(outlier, name).value = count
        getattr(outlier, f"enforcing_{name}").value = _ALWAYS if count else 0
    rates = any(getattr(wanted, name) is not None for name in SUCCESS_RATE)
    outlier.enforcing_success_rate.value = _ALWAYS if rates else 0
    outlier.enforcing_local_origin_success_rate.value = 0
    failures = any(getattr(wanted, name) is not None for name in FAILURE_PERCENTAGE)
    outlier.enforcing_failure_percentage.value = _ALWAYS if failures else 0
    outlier.split_external_local_origin_errors = bool(wanted.split_external_local_origin_errors)
    for name in (*SUCCESS_RATE, *FAILURE_PERCENTAGE, "max_ejection_percent"):
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
