"""Compression of answers: one filter of a route for each algorithm that it names.

What is compressed, and from which size on, is Envoy's own: text, JSON, JavaScript, XML and the like of at least 30
bytes, for clients that accept it, and nothing that is encoded already.
"""

from __future__ import annotations

from typing import Any

from mesh.kinds.routepolicy import Algorithm, Compression
from xds.schema import message, pack
from xds.translate.http_filters import COMPRESSORS

_Compressor = message("envoy.extensions.filters.http.compressor.v3.Compressor")
_LIBRARIES: dict[Algorithm, Any] = {
    "gzip": message("envoy.extensions.compression.gzip.compressor.v3.Gzip"),
    "brotli": message("envoy.extensions.compression.brotli.compressor.v3.Brotli"),
    "zstd": message("envoy.extensions.compression.zstd.compressor.v3.Zstd"),
}


def _packed(algorithm: Algorithm) -> Any:
    config = _Compressor()
    config.compressor_library.name = algorithm
    config.compressor_library.typed_config.CopyFrom(pack(_LIBRARIES[algorithm]()))
    config.response_direction_config.SetInParent()
    return pack(config)


_PACKED = {algorithm: _packed(algorithm) for algorithm in _LIBRARIES}


def set_compression(route: Any, wanted: Compression) -> None:
    """Give a `Route` its compressors."""
    for algorithm in wanted.algorithms:
        route.typed_per_filter_config[COMPRESSORS[algorithm]].CopyFrom(_PACKED[algorithm])
