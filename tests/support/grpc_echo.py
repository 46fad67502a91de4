"""A gRPC service and its caller, as programs: `serve NAME` prints its port, `call TARGET COUNT` who answered.

The method is generic (bytes in, bytes out), so that no generated code is needed.
"""

from __future__ import annotations

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

SERVICE, METHOD = "test.Echo", "Who"


def serve(name: str) -> None:
    """Answer every call with a name, until killed."""

    def who(_request: bytes, _context: Any) -> bytes:
        return name.encode()

    server = grpc.server(ThreadPoolExecutor(4))
    handlers = {METHOD: grpc.unary_unary_rpc_method_handler(who)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    sys.stdout.write(f"{server.add_insecure_port('127.0.0.1:0')}\n")
    sys.stdout.flush()
    server.start()
    server.wait_for_termination()


def call(target: str, count: int) -> None:
    """Call so often and print how often whom answered, one `name count` a line."""
    with grpc.insecure_channel(target) as channel:
        who = channel.unary_unary(f"/{SERVICE}/{METHOD}")
        counts = Counter(who(b"", timeout=20, wait_for_ready=True).decode() for _ in range(count))
    for name, number in sorted(counts.items()):
        sys.stdout.write(f"{name} {number}\n")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        call(sys.argv[2], int(sys.argv[3]))
