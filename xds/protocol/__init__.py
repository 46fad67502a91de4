"""The xDS transport protocol as state machines without I/O: state of the world and delta, on one stream.

Owns what the protocol says: subscriptions, nonces, what a client is believed to hold, what must be sent and when, and
how it is framed. It is handed contents and the time, and hands out bytes; who calls it, over which transport, and where
contents come from, is not its business. No asyncio, no grpc, no clock.

Read in this order: `contents` (what there is and what a client holds), `subscription` (what it asked for),
`transitions` (from one to the other, shared between streams), `frames` (as bytes), `ordering` (make before break),
`rejections` (NACKs), `typed` (one type of a stream), `stream` (all of it, for one client).
"""
