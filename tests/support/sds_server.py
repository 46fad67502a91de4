"""What an agent serves beside an Envoy, as small as it can be: `default` and `ROOTCA` over SDS on a Unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from mesh.spiffe import SpiffeId
from sds.authority import Authority
from sds.keys import new_key
from xds.schema import message, pack
from xds.schema.types import DiscoveryRequest, DiscoveryResponse, Secret

_SERVICE = "envoy.service.secret.v3.SecretDiscoveryService"
_VERSION = "1"


class Issued:
    """A certificate with its key, and whom to believe, in PEM."""

    def __init__(self, authority: Authority, identity: SpiffeId) -> None:
        key = new_key()
        self.key = key.pem().pem
        self.chain = asyncio.run(authority.issue(key.public_key, identity)).chain
        self.roots = b"".join(authority.bundle().roots)

    def write(self, folder: Path) -> tuple[Path, Path, Path]:
        """The files of chain, key and roots."""
        folder.mkdir()
        paths = folder / "chain.pem", folder / "key.pem", folder / "roots.pem"
        for path, content in zip(paths, (self.chain, self.key, self.roots), strict=True):
            path.write_bytes(content)
        return paths


@contextmanager
def sds_server(path: Path, issued: Issued) -> Iterator[None]:
    """Serves it at a socket."""
    secrets = {"default": Secret(), "ROOTCA": Secret()}
    for name, secret in secrets.items():
        secret.name = name
    secrets["default"].tls_certificate.certificate_chain.inline_bytes = issued.chain
    secrets["default"].tls_certificate.private_key.inline_bytes = issued.key
    secrets["ROOTCA"].validation_context.trusted_ca.inline_bytes = issued.roots

    def stream(requests: Iterator[bytes], _context: Any) -> Iterator[bytes]:
        for each in requests:
            request = message(DiscoveryRequest.DESCRIPTOR.full_name).FromString(each)
            if request.version_info == _VERSION:
                continue
            response = DiscoveryResponse()
            response.version_info = response.nonce = _VERSION
            response.type_url = request.type_url
            response.resources.extend(pack(secrets[name]) for name in request.resource_names)
            yield response.SerializeToString()

    server = grpc.server(ThreadPoolExecutor(16))
    handler = grpc.stream_stream_rpc_method_handler(stream)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"StreamSecrets": handler}),))
    server.add_insecure_port(f"unix:{path}")
    server.start()
    try:
        yield
    finally:
        server.stop(0).wait()
