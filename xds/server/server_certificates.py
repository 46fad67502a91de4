"""The certificates that the gRPC server shows, replaced without a restart and without a crash.

grpcio asks for them at every handshake, and takes a new set in while other threads shake hands. One that has looked at
the old set, and not yet begun to use it, then uses freed memory (https://github.com/grpc/grpc/issues/36693): 800
connections at once ended the process in every second run. So nothing is handed over but what differs from the last, and
before it is, the handshakes that have looked get a moment to go on; new ones wait meanwhile, for grpcio asks under a
lock.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

# A handshake takes microseconds from looking to using.
_MOMENT: Final = 0.05


@dataclass(frozen=True, slots=True, repr=False)
class ServerCertificate:
    """A certificate chain and its key, and the authorities whose client certificates are demanded, if any (PEM)."""

    chain: bytes
    key: bytes
    client_ca: bytes = b""

    def __repr__(self) -> str:
        """Keep the key out of logs."""
        return "ServerCertificate([redacted])"


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of the server's certificate and key, and of the CAs that sign proxies' certificates (PEM).

    Looked at again for every new connection, so that replacing them needs no restart.
    """

    certificate: Path
    key: Path
    client_ca: Path

    def read(self) -> ServerCertificate:
        """What is in them now. Raises `OSError`."""
        return ServerCertificate(
            self.certificate.read_bytes(), self.key.read_bytes(), client_ca=self.client_ca.read_bytes()
        )


def credentials(current: Callable[[], ServerCertificate]) -> Any:
    """gRPC credentials that show what is `current` at each new connection; it is asked from threads of gRPC's.

    A file that is just being replaced must not end the service: while `current` raises `OSError`, the last one stands.
    Whether client certificates are demanded is settled by the first.

    Raises:
        OSError: as `current`, the first time.
    """
    first = current()
    last = [first]

    def changed() -> Any:
        with contextlib.suppress(OSError):
            now = current()
            if now != last[0]:
                last[0] = now
                time.sleep(_MOMENT)
                return _configuration(now)
        return None  # "as before"

    return grpc.dynamic_ssl_server_credentials(
        _configuration(first), changed, require_client_authentication=bool(first.client_ca)
    )


def _configuration(certificate: ServerCertificate) -> Any:
    return grpc.ssl_server_certificate_configuration(
        [(certificate.key, certificate.chain)], root_certificates=certificate.client_ca or None
    )
