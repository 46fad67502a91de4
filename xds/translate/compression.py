"""Compression of answers: a route fills one place with a compressor for each algorithm that it names.

What is compressed, and from which size on, is Envoy's own: text, JSON, JavaScript, XML and the like of at least 30
bytes, for clients that accept it, and nothing that is encoded already. Compressors that merely slept in the chain would
take part in the choice of an encoding: a browser that names gzip first would get nothing from a route with zstd alone.
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


FILTER = place(COMPRESSION)
_COMPRESSORS = {algorithm: _compressor(algorithm) for algorithm in _LIBRARIES}


def set_compression(route: Any, wanted: Compression) -> None:
    """Let the answers of a `Route` be compressed; of what a client accepts the one it prefers is used."""
    made = filled(*((algorithm, _COMPRESSORS[algorithm]) for algorithm in wanted.algorithms))
    route.typed_per_filter_config[COMPRESSION].CopyFrom(made)
