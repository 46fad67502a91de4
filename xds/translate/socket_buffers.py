"""Buffers of the kernel: how many bytes it keeps for a connection, in each direction."""

from __future__ import annotations

from typing import Any

# Of Linux on x86-64, where Envoy runs, whatever this runs on.
_SOL_SOCKET = 1
_BUFFERS = (("SO_RCVBUF", 8), ("SO_SNDBUF", 7))


def limit_socket_buffers(options: Any, limit: int) -> None:
    """Add to the `socket_options` of a listener or a cluster; `limit` is in bytes."""
    for description, name in _BUFFERS:
        option = options.add()
        option.description = description
        option.level = _SOL_SOCKET
        option.name = name
        option.int_value = limit
