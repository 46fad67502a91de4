"""The xDS management server: thin gRPC shells around `xds.protocol`.

Owns streams, sockets, time and who may connect. What a proxy should have is decided in the tables, what a stream is
sent next in `xds.protocol.stream`; here it is carried out.

Read in this order: `shelves` (the present contents per audience), `hub` (who is connected, and what they are told),
`session` (one stream), `ads` and `per_type` (the services), `serve` (the server).
"""
