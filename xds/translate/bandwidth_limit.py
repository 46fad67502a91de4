"""Bandwidth limits: how fast bodies pass, as filters that a route puts into its place.

Envoy's filter has one rate for both directions, so that there is one filter for each. That for requests holds their
bodies back, and what it lets go passes by what stands behind it in its place: that for answers comes first, and
compressors, which follow, do nothing to requests.
"""

from __future__ import annotations

from typing import Any

from mesh.kinds.routepolicy import BandwidthLimit
from xds.schema import message, pack
from xds.translate.composite import Filters

_Limit = message("envoy.extensions.filters.http.bandwidth_limit.v3.BandwidthLimit")


def bandwidth_limit_filters(wanted: BandwidthLimit) -> Filters:
    """The filters that let bodies of a route's requests and answers pass no faster than told."""
    rates = (("response", _Limit.RESPONSE, wanted.response_kibps), ("request", _Limit.REQUEST, wanted.request_kibps))
    return tuple((f"{name}_bandwidth", _limit(name, mode, rate)) for name, mode, rate in rates if rate is not None)


def _limit(name: str, mode: int, rate: int) -> Any:
    config = _Limit()
    config.stat_prefix = f"{name}_bandwidth"
    config.enable_mode = mode
    config.limit_kbps.value = rate
    return pack(config)
