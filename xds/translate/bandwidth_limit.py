"""Bandwidth limits: how fast bodies pass, as filters that a route puts into its place.

Envoy's filter has one rate for both directions, so that there is one filter for each. Only the last of a place may hold
a request back: the one for answers never does, and comes first.
"""

from __future__ import annotations

from typing import Any

from mesh.kinds.routepolicy import BandwidthLimit
from xds.schema import message, pack
from xds.translate.composite import filled, place
from xds.translate.http_filters import BANDWIDTH_LIMIT

FILTER = place(BANDWIDTH_LIMIT)

_Limit = message("envoy.extensions.filters.http.bandwidth_limit.v3.BandwidthLimit")


def set_bandwidth_limit(route: Any, wanted: BandwidthLimit) -> None:
    """Let bodies of a `Route`'s requests and answers pass no faster than told."""
    rates = (("response", _Limit.RESPONSE, wanted.response_kibps), ("request", _Limit.REQUEST, wanted.request_kibps))
    limits = [(name, _limit(name, mode, rate)) for name, mode, rate in rates if rate is not None]
    if limits:
        route.typed_per_filter_config[BANDWIDTH_LIMIT].CopyFrom(filled(*limits))


def _limit(name: str, mode: int, rate: int) -> Any:
    config = _Limit()
    config.stat_prefix = f"{name}_bandwidth"
    config.enable_mode = mode
    config.limit_kbps.value = rate
    return pack(config)
