"""Admission control: requests refused while too many fail, as a filter that a route puts into its place.

Each route has a filter of its own and so its own count of what succeeded, on each of a proxy's threads.
"""

from __future__ import annotations

from typing import Any

from mesh.kinds.duration import milliseconds
from mesh.kinds.routepolicy import AdmissionControl
from xds.schema import message, pack
from xds.translate.composite import Filters
from xds.translate.timeouts import set_duration

_AdmissionControl = message("envoy.extensions.filters.http.admission_control.v3.AdmissionControl")
# Envoy wants names for what its runtime may set otherwise; nothing of ours sets any.
_RUNTIME = "fairlead.admission_control"


def admission_control_filters(wanted: AdmissionControl) -> Filters:
    """The filter that refuses requests to a route while too many of them fail. It holds nothing back."""
    config = _AdmissionControl()
    config.enabled.default_value.value = True
    config.enabled.runtime_key = f"{_RUNTIME}.enabled"
    set_duration(config.sampling_window, milliseconds(wanted.sampling_window))
    _set(config.sr_threshold, "success_rate_threshold").value = wanted.success_rate_threshold
    _set(config.max_rejection_probability, "max_rejection_probability").value = wanted.max_rejection_probability
    config.aggression.default_value = wanted.aggression
    config.aggression.runtime_key = f"{_RUNTIME}.aggression"
    config.rps_threshold.default_value = wanted.rps_threshold
    config.rps_threshold.runtime_key = f"{_RUNTIME}.rps_threshold"
    criteria = config.success_criteria
    criteria.SetInParent()
    for statuses in wanted.http_success_statuses or ():
        found = criteria.http_criteria.http_success_status.add()
        found.start, found.end = statuses.start, statuses.end + 1  # Envoy's range ends before its end
    if wanted.grpc_success_statuses:
        criteria.grpc_criteria.grpc_success_status.extend(sorted(set(wanted.grpc_success_statuses)))
    return (("admission_control", pack(config)),)


def _set(percent: Any, name: str) -> Any:
    percent.runtime_key = f"{_RUNTIME}.{name}"
    return percent.default_value
