"""The bundle endpoint: our trust bundle over HTTPS, for other trust domains (SPIFFE Federation §5).

Public keys only, so anybody may ask; the answer is the same for all. The server proves itself with a certificate of its
own authority (`https_spiffe`) or with one from files that the public web trusts (`https_web`).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fairlead.addresses import Address
from fairlead.errors import CommandError
from fairlead.http_server import HttpServer
from mesh.certificates import KeyPair, PrivateKey
from mesh.spiffe import SpiffeId, TrustDomain
from sds.bundle import TrustBundle, write_jwks
from sds.sealing import SealError, read_secret_file
from sds.tls import renewing_context, server_context

_PATHS: Final = frozenset({"/", "/bundle"})


def endpoint_identity(trust_domain: TrustDomain) -> SpiffeId:
    """As whom the endpoint shows itself with a certificate of its own authority."""
    return SpiffeId(trust_domain, "/fairlead/bundle-endpoint")


def bundle_app(bundle: Callable[[], TrustBundle]) -> Any:
    """The ASGI application: one document."""

    async def app(scope: dict[str, Any], _receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        status, body = 200, b""
        if scope["path"] not in _PATHS:
            status = 404
        elif scope["method"] not in {"GET", "HEAD"}:
            status = 405
        else:
            found = bundle()
            body = write_jwks(found)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return app


class PairOfFiles:
    """A certificate and its key in files, read again when they have changed. A pair that does not fit is not taken."""

    def __init__(self, cert: Path, key: Path, *, flags: str = "--bundle-cert, --bundle-key") -> None:
        self._cert, self._key = cert, key
        self._flags = flags
        self._stamp: tuple[Any, ...] = ()
        self._pair: KeyPair | None = None

    def current(self) -> KeyPair:
        """The pair of the moment.

        Raises:
            CommandError: there never was one that can be used.
        """
        try:
            stamp = tuple((one.st_mtime_ns, one.st_ino, one.st_size) for one in (self._cert.stat(), self._key.stat()))
            if stamp != self._stamp:
                pair = KeyPair(self._cert.read_bytes(), PrivateKey(read_secret_file(self._key)))
                server_context(pair)  # refuses what does not fit
                self._pair, self._stamp = pair, stamp
        except (OSError, ssl.SSLError, SealError) as error:
            if self._pair is None:
                words = str(error) or type(error).__name__
                raise CommandError(f"{self._flags}: {words}. Fix: a PEM chain and its key") from None
        assert self._pair is not None
        return self._pair


class BundleServer(HttpServer):
    """Serves the bundle on an address until `stop`."""

    def __init__(self, bundle: Callable[[], TrustBundle], pair: Callable[[], KeyPair], address: Address) -> None:
        context = renewing_context(pair)
        super().__init__(bundle_app(bundle), drain=1.0, tls=lambda: context)
        self.address = address
