"""Issuers of tokens for tests: they sign what they are told, and publish their keys over real HTTPS if asked to."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from tests.support.certificates import Pair


def text(raw: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def number(value: int, size: int | None = None) -> str:
    """A number as a JWK has it."""
    return text(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


class Issuer:
    """`algorithm` is RS256, ES256 or EdDSA."""

    def __init__(self, name: str = "https://issuer.example.com", *, algorithm: str = "ES256", kid: str = "one") -> None:
        self.name = name
        self.algorithm = algorithm
        self.kid = kid
        self.key: Any
        if algorithm == "RS256":
            self.key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        elif algorithm == "ES256":
            self.key = ec.generate_private_key(ec.SECP256R1())
        else:
            self.key = ed25519.Ed25519PrivateKey.generate()

    @property
    def jwk(self) -> dict[str, str]:
        """The public key."""
        about = {"kid": self.kid, "use": "sig", "alg": self.algorithm}
        public = self.key.public_key()
        if self.algorithm == "RS256":
            numbers = public.public_numbers()
            return {**about, "kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
        if self.algorithm == "ES256":
            numbers = public.public_numbers()
            return {**about, "kty": "EC", "crv": "P-256", "x": number(numbers.x, 32), "y": number(numbers.y, 32)}
        return {**about, "kty": "OKP", "crv": "Ed25519", "x": text(public.public_bytes_raw())}

    @property
    def jwks(self) -> str:
        """Its key set."""
        return json.dumps({"keys": [self.jwk]})

    def token(self, *, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token that is good for an hour, but for what is said otherwise (None leaves a claim out)."""
        now = int(time.time())
        said = {"iss": self.name, "sub": "ann", "iat": now, "exp": now + 3_600, **claims}
        head = {"alg": self.algorithm, "kid": self.kid, "typ": "JWT", **(header or {})}
        kept = {name: value for name, value in said.items() if value is not None}
        signed = f"{text(json.dumps(head).encode())}.{text(json.dumps(kept).encode())}"
        return f"{signed}.{text(self._sign(signed.encode()))}"

    def _sign(self, signed: bytes) -> bytes:
        if self.algorithm == "RS256":
            return bytes(self.key.sign(signed, padding.PKCS1v15(), hashes.SHA256()))
        if self.algorithm == "ES256":
            r, s = utils.decode_dss_signature(self.key.sign(signed, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return bytes(self.key.sign(signed))


class KeyServer(http.server.ThreadingHTTPServer):
    """Answers GETs over HTTPS: `answers` by path, as status, headers and body; `asked` are the paths, in order.

    A body that is an `Event` holds the answer back until it is set.
    """

    daemon_threads = True

    def __init__(self, pair: Pair, address: str = "127.0.0.1") -> None:
        self.answers: dict[str, tuple[int, dict[str, str], bytes | threading.Event]] = {}
        self.asked: list[str] = []
        super().__init__((address, 0), _Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        # The handshake is the handler's affair: a client that does none must not hold up the others.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def url(self, path: str, host: str = "localhost") -> str:
        """The address of a path."""
        return f"https://{host}:{self.server_port}{path}"

    def publish(self, path: str, *issuers: Issuer) -> None:
        """Have the keys of issuers there."""
        body = json.dumps({"keys": [issuer.jwk for issuer in issuers]}).encode()
        self.answers[path] = (200, {"content-type": "application/json"}, body)

    def handle_error(self, *args: Any) -> None:
        """Say nothing of clients that go away."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: KeyServer

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        status, headers, body = self.server.answers.get(self.path, (404, {}, b"not here"))
        if isinstance(body, threading.Event):
            body.wait(30)
            body = b""
        with contextlib.suppress(OSError):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if "transfer-encoding" not in headers:
                self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def key_server(pair: Pair, address: str = "127.0.0.1") -> Iterator[KeyServer]:
    """A server until the block ends."""
    server = KeyServer(pair, address)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        for _, _, body in server.answers.values():
            if isinstance(body, threading.Event):
                body.set()
        server.shutdown()
        thread.join()
        server.server_close()
