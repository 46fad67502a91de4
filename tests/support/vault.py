"""A Vault that answers as its PKI engine does, over real HTTP, in the forms of its documentation (secret/pki)."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography import x509

from mesh.spiffe import SpiffeId, TrustDomain
from sds.certificates import Signer, intermediate_request, new_root, read_signer, sign_intermediate, to_pem
from sds.keys import new_key

TD = TrustDomain("example.org")
NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


def clock() -> dt.datetime:
    """The time."""
    return dt.datetime.now(dt.UTC)


def hierarchy(trust_domain: TrustDomain = TD) -> tuple[Signer, Signer]:
    root = new_root(trust_domain, new_key(), now=NOW, lifetime=100 * DAY, above=1)
    key = new_key()
    request = intermediate_request(trust_domain, key)
    chain = sign_intermediate(root, request, trust_domain, now=NOW, lifetime=50 * DAY)
    return root, read_signer(chain, key, trust_domain)


ROOT, SIGNER = hierarchy()
Answer = tuple[int, Any]


class Vault:
    """Answers as Vault's PKI engine does. `change` makes another answer of the right one."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str, Any]] = []
        self.change: Callable[[Answer], Answer] = lambda answer: answer
        self.signer, self.root = SIGNER, ROOT
        vault = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                token = self.headers.get("X-Vault-Token", "")
                vault.asked.append((self.command, self.path, token, body))
                status, content = vault.answer(self.path, token, body)
                raw = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = _answer  # noqa: N815 - the names that it has to have

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def answer(self, path: str, token: str, body: Any) -> Answer:
        if token != "s.token":
            return 403, {"errors": ["permission denied"]}
        if path == "/v1/pki/ca_chain":
            return 200, to_pem(self.signer.certificate) + to_pem(self.root.certificate)
        return self.change((200, self._signed(body)))

    def _signed(self, body: Any) -> dict[str, Any]:
        asked = x509.load_pem_x509_csr(body["csr"].encode())
        identity = SpiffeId.parse(body["uri_sans"])
        life = dt.timedelta(seconds=int(body["ttl"].removesuffix("s")))
        names = [name for name in (*body["alt_names"].split(","), *body["ip_sans"].split(",")) if name]
        chain = self.signer.issue(asked.public_key(), identity, now=clock(), lifetime=life, dns_names=names).chain
        leaf = x509.load_pem_x509_certificates(chain)[0]
        return {
            "request_id": "1",
            "lease_id": "",
            "renewable": False,
            "data": {
                "certificate": to_pem(leaf).decode().strip(),
                "issuing_ca": to_pem(self.signer.certificate).decode().strip(),
                "ca_chain": [to_pem(one).decode().strip() for one in (self.signer.certificate, self.root.certificate)],
                "serial_number": "39:dd:2e",
                "expiration": 1,
            },
        }

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
