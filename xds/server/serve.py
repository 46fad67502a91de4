"""The gRPC server: its sockets, its credentials, its limits, its beginning and its end."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import grpc.aio

from mesh.model import Audience
from xds.server import ads, csds, lrs, metrics_sink, per_type
from xds.server.admission import Admission, Rate
from xds.server.authentication import TRUST_DOMAIN, Authentication, Reviewer, as_tls_did, named_alike
from xds.server.gatekeeper import Gatekeeper
from xds.server.hub import Hub
from xds.server.reflection import reflection_methods
from xds.server.server_certificates import ServerCertificate, Tls, credentials
from xds.server.session import Session

# An Envoy with 10,000 clusters sends 1 MB when it returns.
_LARGEST_REQUEST: Final = 16 << 20
_SWEEP_SECONDS: Final = 1.0


class InsecureAddressError(ValueError):
    """Plaintext was asked for where others could listen, or TLS without its files."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A way in for proxies that show a token instead of a certificate: TLS that asks for no client certificate.

    `certificate` is asked for every new connection, from threads of gRPC's, so that a renewed one needs no restart; it
    does not fail.
    `address` is one beside the server's own; empty: the server's own. An address has one of the two ways in, for
    grpcio either demands a client's certificate or does not ask for it.
    """

    certificate: Callable[[], ServerCertificate]
    reviewer: Reviewer
    address: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds the server's streams, in seconds unless said otherwise."""

    rate: Rate = field(default_factory=Rate)
    max_age: float = 3_600.0
    """A stream is closed after this, give or take `age_jitter`, so that proxies spread over replicas."""
    age_jitter: float = 0.2
    """As a fraction of `max_age`."""
    stuck: float = 60.0
    """A client that takes no message for so long is cut off."""
    connection_age: float = 360.0
    """After this a client is told to open its streams over a new connection, which shows its present certificate."""
    drain: float = 5.0
    """How long streams take to be closed when the server stops, spread evenly."""


class XdsServer:
    """Serves a hub at an address, and at a second one for `tokens` that have their own.

    `address` is `host:port`, port 0 for any free one, or `unix:PATH`. Without `tls`, and without tokens there, it
    serves plaintext, on loopback or a Unix socket only. Over TLS proxies must be of `trust_domain`, and run as one of
    the `accounts` of their audience, where there are any.
    """

    def __init__(
        self,
        hub: Hub,
        address: str,
        *,
        tls: Tls | Callable[[], ServerCertificate] | None = None,
        tokens: Tokens | None = None,
        trust_domain: str = TRUST_DOMAIN,
        accounts: Callable[[Audience], frozenset[str]] = named_alike,
        believes: Callable[[bytes], bool] = as_tls_did,
        limits: Limits | None = None,
        jitter: Callable[[], float] = random.random,
        more: Callable[[Gatekeeper], Mapping[str, Mapping[str, Any]]] | None = None,
        load_interval: float = lrs.INTERVAL_SECONDS,
    ) -> None:
        """`more` makes further services, by name, which let nobody in by themselves either."""
        tokens_here = tokens is not None and not tokens.address
        if tls is not None and tokens_here:
            raise InsecureAddressError(
                f"{address} cannot both demand client certificates and do without: give tokens an address of their own"
            )
        plaintext = tls is None and not tokens_here
        if plaintext and not _is_loopback(address):
            raise InsecureAddressError(
                f"xDS in plaintext is served on loopback only, not on {address}: "
                "give a certificate, a key and a client CA, or bind to 127.0.0.1"
            )
        self.hub = hub
        self.address = address
        self.port = 0
        self.tokens_port = 0
        self.limits = limits if limits is not None else Limits()
        self.loads = lrs.Loads(load_interval)
        self.times = metrics_sink.Times()
        reviewer = tokens.reviewer if tokens is not None else None
        authentication = Authentication(trust_domain, accounts, reviewer, believes)
        self.gate = Gatekeeper(hub, Admission(self.limits.rate), authentication=authentication, plaintext=plaintext)
        self.streams = ads.Streams(hub, self.gate)
        self._tls = tls
        self._tokens = tokens
        self._jitter = jitter
        self._more = more(self.gate) if more is not None else {}
        self._server: Any = None
        self._sweeper: asyncio.Task[None] | None = None
        self._ages: dict[Session, float] = {}
        self._in_doubt = False

    async def start(self) -> int:
        """Bind and serve; the port. Raises `OSError` when the address is taken or is not ours."""
        age = ("grpc.max_connection_age_ms", int(self.limits.connection_age * 1_000))
        server = grpc.aio.server(options=(*_OPTIONS, age))
        for name, methods in self._services().items():
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))
        tokens = self._tokens
        if self._tls is not None:
            self.port = _listen(server, self.address, _of_files(self._tls))
        elif tokens is None or tokens.address:
            self.port = _listen(server, self.address, None)
        if tokens is not None:
            self.tokens_port = _listen(server, tokens.address or self.address, credentials(tokens.certificate))
            self.port = self.port or self.tokens_port
        await server.start()
        self._server = server
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())
        return self.port

    def recheck(self) -> None:
        """Somebody is trusted no more: close the streams of those whom only they vouched for (`believes`)."""
        self._in_doubt = True

    async def drain(self) -> None:
        """Let nobody in, close the streams one after the other, and return once all have ended.

        It takes `limits.drain` seconds at most. The first stream is closed at once, so a lone one holds nobody up.
        """
        self.gate.close()
        loop = asyncio.get_running_loop()
        sessions = list(self.streams.sessions)
        pause = self.limits.drain / max(1, len(sessions))
        closing = [loop.call_later(n * pause, session.close, "drained") for n, session in enumerate(sessions)]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.drain):
                await self.streams.ended()
        for timer in closing:
            timer.cancel()

    async def stop(self, grace: float = 1.0) -> None:
        """Stop; streams that are still there get `grace` seconds to finish what they are writing."""
        self.gate.close()
        self.hub.stop()
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        for session in list(self.streams.sessions):
            session.close("drained")
        if self._server is not None:
            await self._server.stop(grace)

    def _services(self) -> dict[str, Any]:
        services = {
            ads.SERVICE: ads.methods(self.streams),
            **per_type.services(self.streams),
            csds.SERVICE: csds.methods(self.hub, self.gate),
            lrs.SERVICE: lrs.methods(self.loads, self.gate),
            metrics_sink.SERVICE: metrics_sink.methods(self.times, self.gate),
            **self._more,
        }
        services.update(reflection_methods(self.hub, list(services)))
        return services

    async def _sweep(self) -> None:
        """Close streams that are too old, and cut off those that are stuck."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            if self._in_doubt:
                self._in_doubt = False
                await self.streams.recheck()
            now = self.hub.clock()
            for session in list(self.streams.sessions):
                writing = session.writing_since
                if writing is not None and now - writing > self.limits.stuck:
                    session.abort("stuck")
                elif now - session.opened_at > self._age_of(session):
                    session.close("aged")
            self._ages = {session: age for session, age in self._ages.items() if session in self.streams.sessions}

    def _age_of(self, session: Session) -> float:
        age = self._ages.get(session)
        if age is None:
            spread = 1.0 + self.limits.age_jitter * (2.0 * self._jitter() - 1.0)
            age = self._ages[session] = min(self.limits.max_age * spread, _within(session.lasts, self._jitter()))
        return age


def _within(lasts: float, jitter: float) -> float:
    """When a stream that may live for `lasts` seconds is closed: before, and not with all others of its age."""
    return max(0.0, lasts * (0.95 - 0.2 * jitter) - _SWEEP_SECONDS)


_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", _LARGEST_REQUEST),
    ("grpc.max_send_message_length", -1),
    # A proxy that vanished without a word is noticed, and one that pings is not taken for an attacker.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.max_concurrent_streams", 1_000),
)


def _listen(server: Any, address: str, secured: Any) -> int:
    """Bind an address, in plaintext where nothing secures it; its port. Raises `OSError`."""
    try:
        port: int = server.add_insecure_port(address) if secured is None else server.add_secure_port(address, secured)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: {error}") from error
    return port


def _of_files(tls: Tls | Callable[[], ServerCertificate]) -> Any:
    try:
        return credentials(tls.read if isinstance(tls, Tls) else tls)
    except OSError as error:
        raise InsecureAddressError(f"a TLS file of the xDS server cannot be read: {error}") from error


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost" or address.startswith("unix:"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
