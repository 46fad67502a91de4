"""Compression of answers: a filter for each algorithm that a route wants, which it puts into its place.

What is compressed, and from which size on, is Envoy's own: text, JSON, JavaScript, XML and the like of at least 30
bytes, for clients that accept it, and nothing that is encoded already. None of these filters holds anything back.
Compressors that merely slept in the chain would take part in the choice of an encoding: a browser that names gzip
first got nothing from a route with zstd alone.
"""

from __future__ import annotations

from typing import Any

from mesh.kinds.routepolicy import Algorithm, Compression
from xds.schema import message, pack
from xds.translate.composite import Filters

_Compressor = message("envoy.extensions.filters.http.compressor.v3.Compressor")
_LIBRARIES: dict[Algorithm, Any] = {
    "gzip": message("envoy.extensions.compression.gzip.compressor.v3.Gzip"),
    "brotli": message("envoy.extensions.compression.brotli.compressor.v3.Brotli"),
    "zstd": message("envoy.extensions.compression.zstd.compressor.v3.Zstd"),
}


def compression_filters(wanted: Compression) -> Filters:
    """The filters that compress a route's answers; of what a client accepts the one that it prefers is used."""
    return tuple((each, _compressor(each)) for each in _LIBRARIES if each in wanted.algorithms)


def _compressor(algorithm: Algorithm) -> Any:
    config = _Compressor()
    config.compressor_library.name = algorithm
    config.compressor_library.typed_config.CopyFrom(pack(_LIBRARIES[algorithm]()))
    config.response_direction_config.SetInParent()
    return pack(config)
