"""`fairlead agent`: keeps a workload's identity beside its Envoy. The key is born here and goes to that Envoy alone.

It asks the control plane for a certificate, serves it over SDS on a Unix socket to its own user and those named
(`peer_gate.py` asks the kernel who connects), renews it at half its life, and follows what is to be trusted.
Without the control plane it goes on with what it has. The SDS side is the same server that serves xDS, with a world of
two kinds of secrets (`default`, `ROOTCA`).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import msgspec
from cryptography import x509
from google.protobuf.message import DecodeError

from fairlead.errors import CommandError
from fairlead.identities.agent_jwt import JwtApi
from fairlead.identities.issuance import (
    SERVICE,
    BundleAck,
    Bundles,
    IssueJwtRequest,
    IssueJwtResponse,
    IssueRequest,
    IssueResponse,
)
from fairlead.identities.kept_identity import KeptIdentity, NothingKeptError
from fairlead.identities.peer_gate import PeerGate
from mesh.certificates import KeyPair
from mesh.model import Audience
from mesh.spiffe import SpiffeId
from mesh.tables import Change, Engine, Input
from sds.join_tokens import is_join_token
from sds.keys import SigningKey, new_key, request_for
from sds.lifetimes import utc_now
from sds.lint import lint_svid
from sds.renewal import renew_at, retry_after
from xds.resources import Resource, ResourceKey, View, ViewKey
from xds.schema import encode
from xds.schema.type_urls import TYPE_SECRET
from xds.server.hub import Hub, Member
from xds.server.serve import XdsServer
from xds.translate.framing import resource
from xds.translate.names import ROOTCA, root_name
from xds.translate.root_certificates import root_secret
from xds.translate.secret import certificate_secret

DEFAULT: Final = "default"
"""The SDS name of the workload's own certificate, as everybody calls it (Istio, SPIRE)."""
_CALL_SECONDS: Final = 10.0
_LONGEST_SLEEP: Final = 3_600.0
_RECONNECT_SECONDS: Final = 5.0
_ACK_LOOK: Final = 0.05
# An Envoy that has lost the socket comes back within this: its longest pause between attempts is 5 s as we write its
# bootstrap, 30 s where nothing is said.
_ENVOY_BACK_SECONDS: Final = 35.0
_EARLY_LOOK: Final = 1.0
_NO_METADATA: Final[tuple[tuple[str, str], ...]] = ()
_log = logging.getLogger(__name__)


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the control plane is, how to prove who we are the first time, and where Envoy asks.

    `server` is for renewals (mutual TLS), `join` for the first certificate (`--xds-tokens` of the server); `ca` are the
    roots to believe at first (PEM), from `ca_file`. `token_file` is read anew for every attempt, and so is `ca_file`
    for those with a token: in a pod both are kept by others. `users` may ask beside our own. `kept` is what the next
    start goes on with.
    """

    server: str
    join: str
    ca: bytes
    socket: Path
    ca_file: Path | None = None
    token_file: Path | None = None
    server_name: str = ""
    lifetime: int = 0
    instance: str = ""
    users: frozenset[int] = frozenset()
    kept: KeptIdentity | None = None


class Secrets:
    """What Envoy is told over SDS, and a server of it. `monotonic` is a clock."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._left_at = monotonic()
        self._rows: Input[ResourceKey, Resource] = Input("secrets")
        self._views: Input[ViewKey, View] = Input("views")
        self._engine = Engine([self._rows, self._views])
        self.hub = Hub({TYPE_SECRET: (self._rows,)}, self._views)
        self.hub.on_audience = self._came
        self.hub.on_left = self._left
        self._audiences: set[Audience] = set()
        self._names: dict[str, bytes] = {}
        self._publish([])

    def put(self, secrets: dict[str, Any]) -> None:
        """Have these secrets, by name, beside those that are there."""
        changes = []
        for name, secret in secrets.items():
            content = encode(secret)
            if self._names.get(name) != content:
                self._names[name] = content
                key = ResourceKey(TYPE_SECRET, name)
                changes.append(Change(self._rows, key, resource(TYPE_SECRET, name, content)))
        self._publish([*changes, *(self._view(audience) for audience in self._audiences)])

    def taken(self, name: str) -> bool:
        """Whether every Envoy that asks for a secret has taken its present version; one that may come back too."""
        spread = self.hub.distribution([ResourceKey(TYPE_SECRET, name)])
        if spread.pending or spread.rejected:
            return False
        return bool(spread.acked) or self._monotonic() - self._left_at >= _ENVOY_BACK_SECONDS

    def _left(self, _: Member) -> None:
        self._left_at = self._monotonic()

    def _came(self, audience: Audience, connected: bool) -> None:
        if connected and audience not in self._audiences:
            self._audiences.add(audience)
            self._publish([self._view(audience)])

    def _view(self, audience: Audience) -> Change:
        keys = tuple(ResourceKey(TYPE_SECRET, name) for name in sorted(self._names))
        return Change(self._views, ViewKey(audience, TYPE_SECRET), View(keys))

    def _publish(self, changes: list[Change]) -> None:
        self.hub.publish(self._engine.commit(changes), self._engine)


class Agent:
    """See the module. `clock` is the wall clock: tests may give it a wrong one."""

    def __init__(self, settings: AgentSettings, *, clock: Callable[[], dt.datetime] = utc_now) -> None:
        self._settings = settings
        self._clock = clock
        self._secrets = Secrets()
        self._roots = settings.ca
        self._key: SigningKey | None = None
        self._chain = b""
        self._leaf: x509.Certificate | None = None
        self._identity = ""
        self._renew_at = clock()
        self._tainted: frozenset[str] = frozenset()
        self._have = asyncio.Event()
        self._renew = asyncio.Event()
        self._version = ""
        self._in_force = ""
        self._jwt = JwtApi(self._issue_jwt, clock)
        self._believed = asyncio.Event()
        self._early: list[tuple[SigningKey, Any]] = []
        self._came_early = asyncio.Event()

    # -- the life of the agent --------------------------------------------------------------------------------------

    async def run(self, ready: Callable[[str], None]) -> None:
        """Serve until cancelled; `ready` is told the identity once the first certificate is there.

        Raises:
            CommandError: the socket cannot be had.
        """
        gate, server = await self._listen()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep())
                tasks.create_task(self._follow())
                tasks.create_task(self._await_early())
                await self._have.wait()
                self._secrets.hub.open()
                ready(self._identity)
        finally:
            await gate.stop()
            await server.stop(0.1)

    async def _listen(self) -> tuple[PeerGate, XdsServer]:
        path = self._settings.socket
        mine = os.getuid()
        try:
            path.parent.mkdir(mode=0o711 if self._settings.users - {mine} else 0o700, parents=True, exist_ok=True)
            if path.is_socket() and not _answers(path):
                path.unlink()
            elif path.exists():
                raise CommandError(
                    f"--socket: {path} is there already. Fix: stop the other agent, or name another path"
                )
            gate = PeerGate(path, self._settings.users | {mine})
            server = XdsServer(self._secrets.hub, f"unix:{gate.inner}", more=lambda _: self._jwt.methods())
            await server.start()
            await gate.start()
        except OSError as error:
            raise CommandError(
                f"--socket: cannot listen on {path}: {error}. Fix: name a path in a folder of yours"
            ) from None
        return gate, server

    # -- the certificate --------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Have a certificate and renew it in time, without end."""
        self._resume()
        failures = 0
        while True:
            try:
                await self._obtain(again=failures)
                failures = 0
            except (grpc.aio.AioRpcError, CommandError, OSError, ValueError) as error:
                failures += 1
                words = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
                _log.warning("no new certificate (attempt %d): %s", failures, words)
            await self._pause(failures)

    async def _pause(self, failures: int) -> None:
        now, leaf = self._clock(), self._leaf
        left = leaf.not_valid_after_utc - now if leaf is not None else dt.timedelta(seconds=60)
        draw = random.random()  # noqa: S311 - a spread
        again = retry_after(failures, left=max(left, dt.timedelta()), draw=draw) if failures else None
        pause = again or self._renew_at - now
        self._renew.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(max(pause.total_seconds(), 0.05), _LONGEST_SLEEP)):
                await self._renew.wait()

    def _resume(self) -> None:
        """Go on with what an agent before this one kept, where that is still of use."""
        if self._settings.kept is None:
            return
        try:
            self._take(*self._settings.kept.load())
        except (NothingKeptError, ValueError) as error:
            _log.info("no identity is resumed: %s", error)

    async def _obtain(self, *, again: int = 0) -> None:
        """Get a certificate for a new key; `again`: so many attempts have failed.

        Every other attempt after a failure is with the platform's token, where there is one: it gets a certificate too
        for whose own one is refused, since its authority is revoked.

        Raises:
            grpc.aio.AioRpcError: the control plane cannot be reached, or refuses.
            ValueError: what it gave is no certificate of ours.
        """
        key = new_key()
        request = IssueRequest(
            csr=request_for(key, None), lifetime_seconds=self._settings.lifetime, instance=self._instance
        )
        request.clock.FromDatetime(self._clock())
        async with self._channel(by_token=again % 2 == 1 and self._has_lasting_token()) as (channel, metadata):
            call = channel.unary_unary(f"/{SERVICE}/Issue")
            answer = await call(request.SerializeToString(), metadata=metadata, timeout=_CALL_SECONDS)
        self._take(key, IssueResponse.FromString(answer))

    def _take(self, key: SigningKey, answer: Any) -> None:
        """Put a certificate in force that is valid now; keep one that is not valid yet until it is.

        Raises:
            ValueError: it is no certificate of ours, or not of this time. What was in force before stays.
        """
        leaf = x509.load_pem_x509_certificate(answer.chain)
        identity = SpiffeId.parse(answer.spiffe_id)
        problems = lint_svid(leaf, identity, None)
        if problems or leaf.public_key() != key.public_key:
            raise ValueError(f"what came is no certificate of ours: {'; '.join(problems) or 'another key'}")
        now = self._clock()
        early = leaf.not_valid_before_utc > now
        if early and not self._early:  # not the newest, which begins last
            self._early.append((key, answer))
            self._came_early.set()
        if early or leaf.not_valid_after_utc <= now:
            raise ValueError(
                f"the certificate that came is valid from {leaf.not_valid_before_utc.isoformat()} until"
                f" {leaf.not_valid_after_utc.isoformat()}, and here it is {now.isoformat(timespec='seconds')}: the"
                " control plane's clock or this machine's is off. What is in force stays. Fix: set the clock (NTP)"
            )
        self._early.clear()
        self._put_in_force(key, answer, leaf, identity)

    async def _await_early(self) -> None:
        """Put in force what came before its time, once that has come, without end."""
        while True:
            await self._came_early.wait()
            for key, answer in self._early:
                leaf = x509.load_pem_x509_certificate(answer.chain)
                if leaf.not_valid_before_utc <= self._clock():
                    self._put_in_force(key, answer, leaf, SpiffeId.parse(answer.spiffe_id))
                    self._early.clear()
            if not self._early:
                self._came_early.clear()
            await asyncio.sleep(_EARLY_LOOK)

    def _put_in_force(self, key: SigningKey, answer: Any, leaf: x509.Certificate, identity: SpiffeId) -> None:
        self._key, self._chain, self._leaf = key, answer.chain, leaf
        self._identity = str(identity)
        self._renew_at = renew_at(self._clock(), leaf.not_valid_after_utc, draw=random.random())  # noqa: S311 - a spread
        self._believe(answer.bundles)
        pair = KeyPair(answer.chain, key.pem())
        self._secrets.put({DEFAULT: certificate_secret(DEFAULT, pair)})
        _log.info("certificate of %s until %s", identity, leaf.not_valid_after_utc.isoformat())
        if self._settings.kept is not None:
            try:
                self._settings.kept.save(key, answer)
            except OSError as error:
                _log.warning("the identity is not kept for the next start: %s", error)
        self._have.set()

    async def _issue_jwt(self, audiences: tuple[str, ...]) -> Any:
        """A JWT-SVID of this workload. Raises AioRpcError, and TimeoutError while there is no certificate."""
        async with asyncio.timeout(_CALL_SECONDS):
            await self._have.wait()
        async with self._channel(renewing=True) as (channel, metadata):
            call = channel.unary_unary(f"/{SERVICE}/IssueJwt")
            asked = IssueJwtRequest(audiences=audiences).SerializeToString()
            return IssueJwtResponse.FromString(await call(asked, metadata=metadata, timeout=_CALL_SECONDS))

    # -- what to trust ----------------------------------------------------------------------------------------------

    def _believe(self, bundles: Any) -> None:
        if not bundles.roots:
            return
        self._roots = bundles.roots
        secrets = {ROOTCA: root_secret(ROOTCA, bundles.roots)}
        for name in sorted(bundles.federated):
            secrets[root_name(name)] = root_secret(root_name(name), bundles.federated[name])
        self._secrets.put(secrets)
        self._jwt.put(bundles.jwks)
        self._version = bundles.version
        self._believed.set()
        tainted = frozenset(bundles.tainted)
        if tainted - self._tainted:
            self._renew.set()
        self._tainted = tainted

    async def _follow(self) -> None:
        """Hear of every change of what to trust, without end."""
        await self._have.wait()
        while True:
            try:
                async with self._channel(renewing=True) as (channel, metadata), asyncio.TaskGroup() as tasks:
                    call = channel.stream_stream(f"/{SERVICE}/FollowBundles")(metadata=metadata)
                    acknowledging = tasks.create_task(self._acknowledge(call))
                    await self._hear(call)
                    acknowledging.cancel()
            except* (grpc.aio.AioRpcError, asyncio.InvalidStateError, DecodeError, OSError) as failed:
                error = failed.exceptions[0]
                words = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
                _log.info("not following what to trust: %s", words)
            await asyncio.sleep(_RECONNECT_SECONDS * (0.5 + random.random()))  # noqa: S311 - a spread

    async def _hear(self, call: Any) -> None:
        told = False
        async for content in call:
            if not told:
                told = True
                _log.info("following what to trust")
            self._believe(Bundles.FromString(content))

    async def _acknowledge(self, call: Any) -> None:
        """Say what is in force, at first and whenever it is another bundle, without end."""
        while True:
            said = BundleAck(version=self._in_force, instance=self._instance)
            await call.write(said.SerializeToString())
            await self._next_in_force()

    async def _next_in_force(self) -> None:
        """Wait until Envoy has put another bundle in force: only then it is true that this workload trusts it."""
        while self._in_force == self._version:
            self._believed.clear()
            await self._believed.wait()
        while not self._secrets.taken(ROOTCA):  # noqa: ASYNC110 - the hub tells nobody of acknowledgements
            await asyncio.sleep(_ACK_LOOK)
        self._in_force = self._version

    @property
    def _instance(self) -> str:
        return self._settings.instance or socket.gethostname()

    # -- the way to the control plane -------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _channel(
        self, *, renewing: bool = False, by_token: bool = False
    ) -> AsyncIterator[tuple[Any, tuple[tuple[str, str], ...]]]:
        """A channel as who we are: by our certificate while it is valid, by the token otherwise."""
        settings, leaf = self._settings, self._leaf
        options = [("grpc.ssl_target_name_override", settings.server_name)] if settings.server_name else []
        valid = leaf is not None and self._key is not None and self._clock() < leaf.not_valid_after_utc
        if (valid and not by_token) or renewing:
            assert self._key is not None
            credentials = grpc.ssl_channel_credentials(self._roots, self._key.pem().pem, self._chain)
            address, metadata = settings.server, _NO_METADATA
        else:
            credentials = grpc.ssl_channel_credentials(self._roots + self._roots_of_file())
            address, metadata = settings.join, (("authorization", f"Bearer {self._token()}"),)
        channel = grpc.aio.secure_channel(address, credentials, options=options)
        try:
            yield channel, metadata
        finally:
            await channel.close(0.1)

    def _roots_of_file(self) -> bytes:
        """What the file of roots holds by now, where it can be read."""
        path = self._settings.ca_file
        try:
            return b"\n" + path.read_bytes() if path is not None else b""
        except OSError:
            return b""

    def _has_lasting_token(self) -> bool:
        """Whether there is a token that may be shown more than once: a platform's, no join token."""
        try:
            return bool(token := self._token()) and not is_join_token(token)
        except CommandError:
            return False

    def _token(self) -> str:
        path = self._settings.token_file
        if path is None:
            raise CommandError("the certificate has ended, and there is no token to get another. Fix: --token-file")
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"--token-file: cannot read {path}: {error}") from None


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
