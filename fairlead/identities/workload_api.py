"""The xDS server's certificate from SPIFFE's Workload API, as SPIRE's agent serves it on a socket of the machine.

A thread follows the API: a certificate that is renewed there, or authorities that change, are used from the next
connection on. While the API is away the last certificate stands, and it is told of (`problems`, `numbers`); nothing is
ever written to a file.
"""

from __future__ import annotations

import datetime as dt
import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import grpc

from fairlead.errors import CommandError
from mesh.problems import Problem
from mesh.spiffe import TrustDomain
from sds.lifetimes import utc_now
from sds.workload_api import Svid, UnusableSvid, read_svid
from xds.server.server_certificates import ServerCertificate

_METHOD: Final = "/SpiffeWorkloadAPI/FetchX509SVID"
# Browsers cannot send it: the specification asks for it against requests that a page was made to send (§4.1).
_METADATA: Final = (("workload.spiffe.io", "true"),)
_FIRST_SECONDS: Final = 30.0
_RETRY_SECONDS: Final = (0.5, 10.0)
_FIX: Final = "See that SPIRE's agent runs, has an entry for this program, and can be reached at the socket"
SOURCE: Final = "workload-api"
_log = logging.getLogger(__name__)


class WorkloadApi:
    """`open` it first; then it is what the xDS server asks for its certificate."""

    def __init__(self, socket: str, trust_domain: TrustDomain, *, clock: Callable[[], dt.datetime] = utc_now) -> None:
        """`socket` is a path, or a `unix:` URI as in `SPIFFE_ENDPOINT_SOCKET`."""
        self._path = socket.removeprefix("unix://").removeprefix("unix:")
        self._trust_domain = trust_domain
        self._clock = clock
        self._svid: Svid | None = None
        self._first = threading.Event()
        self._ended = threading.Event()
        self._call: Any = None
        self._trouble = ""
        self._luck = random.Random()  # noqa: S311 - a spread; of its own, as a thread draws from it

    def open(self, *, seconds: float = _FIRST_SECONDS) -> None:
        """Wait for the first certificate, and follow from then on.

        Raises:
            CommandError: there is none after so many seconds.
        """
        threading.Thread(target=self._follow, name="workload-api", daemon=True).start()
        if not self._first.wait(seconds):
            words = self._trouble or "no answer"
            self.close()
            raise CommandError(
                f"--xds-workload-api: no certificate from {self._path} in {seconds:g} s: {words}."
                " Fix: see that SPIRE's agent listens there and has an entry that fits this program"
            )

    def __call__(self) -> ServerCertificate:
        """What the server shows now, and whose certificates it believes; from any thread."""
        svid = self._svid
        assert svid is not None
        return ServerCertificate(svid.pair.chain, svid.pair.key.pem, client_ca=svid.roots)

    def problems(self) -> Sequence[tuple[str, Problem]]:
        """What an operator should look after: the API is away or has no identity for us, or ours has ended."""
        svid, trouble = self._svid, self._trouble
        if svid is not None and (ends := svid.leaf.not_valid_after_utc) <= self._clock():
            words = f"the xDS server's certificate ended at {ends.isoformat()}: no proxy can connect anew"
            words += f"; the Workload API at {self._path}: {trouble}" if trouble else ""
            return [(SOURCE, Problem("CertificateEnded", "error", "", words, _FIX))]
        if not trouble:
            return []
        words = f"the Workload API at {self._path}: {trouble}"
        if svid is not None:
            words += f"; what is in force stands until {svid.leaf.not_valid_after_utc.isoformat()}"
        return [(SOURCE, Problem("WorkloadApiAway", "warning", "", words, _FIX))]

    def numbers(self) -> Mapping[str, float]:
        """For the metrics page: the seconds that are `left` of the certificate, whether the API can be `followed`."""
        svid = self._svid
        left = (svid.leaf.not_valid_after_utc - self._clock()).total_seconds() if svid is not None else 0.0
        return {"left": left, "followed": float(not self._trouble)}

    def close(self) -> None:
        """Follow no longer."""
        self._ended.set()
        if self._call is not None:
            self._call.cancel()

    def _follow(self) -> None:
        pause = _RETRY_SECONDS[0]
        while not self._ended.is_set():
            try:
                with grpc.insecure_channel(f"unix:{self._path}") as channel:
                    self._call = channel.unary_stream(_METHOD)(b"", metadata=_METADATA)
                    for answer in self._call:
                        self._take(answer)
                        pause = _RETRY_SECONDS[0]
                self._note("it ended the stream")
            except grpc.RpcError as error:
                self._note(f"{error.code().name}: {error.details()}")
            except UnusableSvid as error:
                self._note(str(error))
            self._ended.wait(pause * self._luck.uniform(0.5, 1.0))
            pause = min(pause * 2, _RETRY_SECONDS[1])

    def _take(self, answer: bytes) -> None:
        svid = read_svid(answer, self._trust_domain)
        self._svid = svid
        self._trouble = ""
        _log.info("xDS is served as %s until %s", svid.identity, svid.leaf.not_valid_after_utc.isoformat())
        self._first.set()

    def _note(self, trouble: str) -> None:
        """Log a trouble, once per change of it."""
        if trouble != self._trouble and not self._ended.is_set():
            _log.warning("the Workload API at %s: %s; what is in force stands", self._path, trouble)
        self._trouble = trouble
