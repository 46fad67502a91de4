"""Compression of answers: one filter per algorithm, which does nothing until a route names it.

What is compressed, and from which size on, is Envoy's own: text, JSON, JavaScript, XML and the like of at least 30
bytes, for clients that accept it, and nothing that is encoded already.
"""

from __future__ import annotations

from typing import Any

from mesh.kinds.routepolicy import Algorithm, Compression
from xds.schema import message, pack
from xds.translate.http_filters import COMPRESSORS, Filter, http_filter

_Compressor = message("envoy.extensions.filters.http.compressor.v3.Compressor")
_PerRoute = message("envoy.extensions.filters.http.compressor.v3.CompressorPerRoute")
_LIBRARIES: dict[Algorithm, Any] = {
    "gzip": message("envoy.extensions.compression.gzip.compressor.v3.Gzip"),
    "brotli": message("envoy.extensions.compression.brotli.compressor.v3.Brotli"),
    "zstd": message("envoy.extensions.compression.zstd.compressor.v3.Zstd"),
}


def _filter(algorithm: Algorithm) -> Filter:
    config = _Compressor()
    config.compressor_library.name = algorithm
    config.compressor_library.typed_config.CopyFrom(pack(_LIBRARIES[algorithm]()))
    enabled = config.response_direction_config.common_config.enabled
    enabled.default_value.value = False
    enabled.runtime_key = f"fairlead.compression.{algorithm}"
    return http_filter(COMPRESSORS[algorithm], pack(config))


def _awake() -> Any:
    per_route = _PerRoute()
    per_route.overrides.response_direction_config.SetInParent()
    return pack(per_route)


FILTERS = tuple(_filter(algorithm) for algorithm in _LIBRARIES)
_AWAKE = _awake()


def set_compression(route: Any, wanted: Compression) -> None:
    """Let the compressors of a `Route` compress; of those that a client accepts the one it prefers is used."""
    for algorithm in wanted.algorithms:
        route.typed_per_filter_config[COMPRESSORS[algorithm]].CopyFrom(_AWAKE)
