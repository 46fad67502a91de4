"""Certificate requests become X.509-SVIDs: CPU time for each, on one core.

Each request (ECDSA P-256) is read, its signature checked, its key certified by the built-in authority, the certificate
read again and linted, and written as PEM. In this process; the peer does the same with Go's standard library, without
a linter of the profile. The bar is a thousand in a second on a core.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from benchmarks.bench import Bench
from benchmarks.processes import build
from benchmarks.report import Bar, Reading, Result, merge
from mesh.spiffe import TrustDomain, workload
from sds.builtin import BuiltinAuthority, in_memory
from sds.keys import new_key, request_for
from sds.outer import request_pem

NAME = "issuing"
IDENTITY = workload(TrustDomain("cluster.local"), "shop", "reviews")
_KEYS = 50
_LABEL = "CPU for a certificate"
_BAR = Bar(at_most=1000)


def run(bench: Bench) -> list[Result]:
    """Sign as many as the size says, after a tenth as many unmeasured."""
    requests = [request_for(new_key(), IDENTITY) for _ in range(_KEYS)]
    count = bench.size.certificates
    ours = [Reading(_LABEL, asyncio.run(_ours(requests, count)), "us", _BAR)] if bench.measures_ours else []
    peer = [Reading(_LABEL, _peer(requests, count), "us", _BAR)] if "peer" in bench.systems else []
    return merge(NAME, ours, peer)


async def _ours(requests: list[bytes], count: int) -> float:
    authority = in_memory(IDENTITY.trust_domain)
    for number in range(count // 10):
        await sign(authority, requests[number % _KEYS])
    before = time.process_time()
    for number in range(count):
        await sign(authority, requests[number % _KEYS])
    return (time.process_time() - before) / count * 1e6


async def sign(authority: BuiltinAuthority, request: bytes) -> None:
    """What a server does for a caller that it knows."""
    key = x509.load_der_x509_csr(request).public_key()
    request_pem(request, key, IDENTITY, names_needed=True)
    issued = await authority.issue(key, IDENTITY, request=request)
    assert issued.chain


def _peer(requests: list[bytes], count: int) -> float:
    with tempfile.TemporaryDirectory(prefix="bench-signer-") as directory:
        path = Path(directory) / "requests.pem"
        path.write_bytes(b"".join(x509.load_der_x509_csr(one).public_bytes(Encoding.PEM) for one in requests))
        command = [str(build("signer")), f"-requests={path}", f"-count={count}", f"-identity={IDENTITY}"]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
