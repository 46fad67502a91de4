"""A name server for tests: it knows some names by heart, and no others."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import socketserver
import struct
import threading
from collections.abc import Iterator, Mapping

_TYPES = {4: 1, 6: 28}  # A and AAAA


@contextlib.contextmanager
def name_server(names: Mapping[str, str], asked: list[tuple[str, int]] | None = None) -> Iterator[tuple[str, ...]]:
    """Serve addresses by name until the block ends; yields the arguments by which an Envoy asks nobody else.

    `asked` is added the names and types of all questions.
    """

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            query, sock = self.request
            if asked is not None:
                asked.append(_question(query))
            sock.sendto(_answer(query, names), self.client_address)

    server = socketserver.ThreadingUDPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    address = {"socket_address": {"address": "127.0.0.1", "port_value": server.server_address[1]}}
    resolver = {
        "name": "envoy.network.dns_resolver.cares",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            "resolvers": [address],
            "dns_resolver_options": {"no_default_search_domain": True},
        },
    }
    try:
        yield ("--config-yaml", json.dumps({"typed_dns_resolver_config": resolver}))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _question(query: bytes) -> tuple[str, int]:
    """The name that is asked for, and the type."""
    labels, at = [], 12
    while size := query[at]:
        labels.append(query[at + 1 : at + 1 + size].decode())
        at += 1 + size
    (kind,) = struct.unpack_from("!H", query, at + 1)
    return ".".join(labels).lower(), kind


def _answer(query: bytes, names: Mapping[str, str]) -> bytes:
    """A response to a query of one question (RFC 1035 §4)."""
    name, kind = _question(query)
    question = query[12 : query.index(0, 12) + 5]
    known = names.get(name)
    address = ipaddress.ip_address(known) if known is not None else None
    found = address is not None and _TYPES[address.version] == kind
    flags = 0x8580 if address is not None else 0x8583  # NXDOMAIN
    head = query[:2] + struct.pack("!5H", flags, 1, int(found), 0, 0)
    if address is None or not found:
        return head + question
    return head + question + struct.pack("!HHHIH", 0xC00C, kind, 1, 60, len(address.packed)) + address.packed
