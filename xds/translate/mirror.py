"""Mirrors: RequestMirror as `request_mirror_policies`; the copy's answer is dropped.

The copy keeps the request's host (Envoy would append `-shadow`). A mirror whose backend cannot be resolved copies
nothing and leaves the request alone; the route's status tells of it.
"""

from __future__ import annotations

from typing import Any

from mesh.kinds.http_filters import HTTPRequestMirrorFilter
from xds.schema.types import FractionalPercent

_MILLION = 1_000_000


def add_mirror(action: Any, mirror: HTTPRequestMirrorFilter, cluster: str) -> None:
    """Add one policy to a `RouteAction`; a share of nothing adds none."""
    share = _millionths(mirror)
    if share == 0:
        return
    policy = action.request_mirror_policies.add()
    policy.cluster = cluster
    policy.disable_shadow_host_suffix_append = True
    policy.runtime_fraction.default_value.numerator = share
    policy.runtime_fraction.default_value.denominator = FractionalPercent.MILLION


def _millionths(mirror: HTTPRequestMirrorFilter) -> int:
    if mirror.fraction is not None:
        share = mirror.fraction.numerator * _MILLION // mirror.fraction.denominator
        return min(share, _MILLION)
    return _MILLION if mirror.percent is None else mirror.percent * _MILLION // 100
