"""Compression of answers: one filter per algorithm that a route names.

What is compressed, and from which size on, is Envoy's own: text, JSON, JavaScript, XML and the like of at least 30
bytes, for clients that accept it, and nothing that is encoded already.
"""

from __future__ import annotations

from typing import Any

from mesh.kinds.routepolicy import Algorithm, Compression
from xds.schema import message, pack
from xds.translate.composite import filled, place
from xds.translate.http_filters import COMPRESSION

_Compressor = message("envoy.extensions.filters.http.compressor.v3.Compressor")
_LIBRARIES: dict[Algorithm, Any] = {
    "gzip": message("envoy.extensions.compression.gzip.compressor.v3.Gzip"),
    "brotli": message("envoy.extensions.compression.brotli.compressor.v3.Brotli"),
    "zstd": message("envoy.extensions.compression.zstd.compressor.v3.Zstd"),
}


def _compressor(algorithm: Algorithm) -> Any:
    config = _Compressor()
    config.compressor_library.name = algorithm
    config.compressor_library.typed_config.CopyFrom(pack(_LIBRARIES[algorithm]()))
    config.response_direction_config.SetInParent()
    return pack(config)


FILTERS = (place(COMPRESSION),)
_COMPRESSORS = {algorithm: _compressor(algorithm) for algorithm in _LIBRARIES}


def set_compression(route: Any, wanted: Compression) -> None:
    """Give a `Route` its compressors; of those that a client accepts the one it prefers is used."""
    chosen = [(algorithm, config) for algorithm, config in _COMPRESSORS.items() if algorithm in wanted.algorithms]
    route.typed_per_filter_config[COMPRESSION].CopyFrom(filled(*chosen))
