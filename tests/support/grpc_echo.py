"""A gRPC service and its caller, as programs: `serve NAME` prints its port; `call TARGET` reads numbers, a line each,
makes so many calls over one channel, and prints who answered how often (the status of a call that failed), in one line.

The method is generic (bytes in, bytes out), so that no generated code is needed.
"""

from __future__ import annotations

import json
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


def call(target: str) -> None:
    """Call as often as each line of standard input says; `{"name": count, …}` for each."""
    with grpc.insecure_channel(target) as channel:
        who = channel.unary_unary(f"/{SERVICE}/{METHOD}")
        for line in sys.stdin:
            counts = Counter(_answer(who) for _ in range(int(line)))
            sys.stdout.write(f"{json.dumps(counts)}\n")
            sys.stdout.flush()


def _answer(who: Any) -> str:
    try:
        return str(who(b"", timeout=20, wait_for_ready=True).decode())
    except grpc.RpcError as error:
        return str(error.code().name)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        call(sys.argv[2])
