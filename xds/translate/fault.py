"""Faults on purpose: delays and aborts for a share of the requests, as a filter that a route puts into its place."""

from __future__ import annotations

from typing import Any

from mesh.kinds.duration import milliseconds
from mesh.kinds.routepolicy import FaultInjection
from xds.schema import message, pack
from xds.translate.composite import Filters
from xds.translate.timeouts import set_duration

_HTTPFault = message("envoy.extensions.filters.http.fault.v3.HTTPFault")
_MILLION = message("envoy.type.v3.FractionalPercent").DESCRIPTOR.enum_values_by_name["MILLION"].number
_DELAY_HEADER = "x-envoy-fault-delay-request"
_ABORT_HEADER = "x-envoy-fault-abort-request"
# What requests may ask for, or nothing: what a policy may say itself. Envoy would hold one back for any time, and send
# a body with 204, 205 and 304, which a client takes for the beginning of the next answer.
_DELAYS = "(?:[0-9]{1,6}|[12][0-9]{6}|3[0-5][0-9]{5}|3600000)?"
_STATUSES = "(?:20[0-36-9]|2[1-9][0-9]|30[0-35-9]|3[1-9][0-9]|[45][0-9]{2})?"
_PER_PERCENT = 10_000


def fault_filters(wanted: FaultInjection) -> Filters:
    """The filter of a route's faults. A delay holds the request back."""
    fault = _HTTPFault()
    if wanted.delay is not None:
        if wanted.delay.fixed is not None:
            set_duration(fault.delay.fixed_delay, milliseconds(wanted.delay.fixed))
        else:
            fault.delay.header_delay.SetInParent()
        _set_share(fault.delay.percentage, wanted.delay.percent)
    if wanted.abort is not None:
        if wanted.abort.http_status is not None:
            fault.abort.http_status = wanted.abort.http_status
        elif wanted.abort.grpc_status is not None:
            fault.abort.grpc_status = wanted.abort.grpc_status
        else:
            fault.abort.header_abort.SetInParent()
        _set_share(fault.abort.percentage, wanted.abort.percent)
    for header in wanted.headers or ():
        matcher = fault.headers.add()
        matcher.name = header.name.lower()
        if header.value is None:
            matcher.present_match = True
        else:
            matcher.string_match.exact = header.value
    asked = (
        (_DELAY_HEADER, _DELAYS, wanted.delay is not None and wanted.delay.from_header),
        (_ABORT_HEADER, _STATUSES, wanted.abort is not None and wanted.abort.from_header),
    )
    for name, pattern, heeded in asked:
        if heeded:
            matcher = fault.headers.add()
            matcher.name = name
            matcher.string_match.safe_regex.regex = pattern
            matcher.treat_missing_header_as_empty = True
    if wanted.max_active is not None:
        fault.max_active_faults.value = wanted.max_active
    return (("fault", pack(fault)),)


def _set_share(percentage: Any, percent: float) -> None:
    percentage.numerator = round(percent * _PER_PERCENT)
    percentage.denominator = _MILLION
