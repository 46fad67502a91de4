"""The xDS management server: thin gRPC shells around `xds.protocol`.

Owns streams, sockets, time and who may connect. What a proxy should have is decided in the tables, what a stream is
sent next in `xds.protocol.stream`; here it is carried out.

Read in this order: `shelves` (the present contents per audience), `hub` (who is connected, and what they are told),
`gatekeeper` (who is let in), `session` (one stream), `ads` and `per_type` (the services), `serve` (the server).
"""

import os

# Takes effect only before gRPC is loaded. Without its event engine's listener the thread that waits for events does the
# reading too; with it every message wakes another thread, which costs a fifth of the CPU of a push to 200 proxies and
# doubles its median time (25-39 instead of 20 ms; grpcio 1.85).
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")
