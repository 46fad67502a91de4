"""What the way in for tokens shows where there is an authority (`--ca`): a certificate of that very authority.

One authority for all: its roots are what the ConfigMap `fairlead-ca` carries, the proxies of Gateways believe, and an
agent needs both for its first certificate and ever after. Without `--ca`, `xds_authority.py` is the door.

Pods read their ConfigMaps again a minute or two after a change, and nobody tells when. So a new root signs only when it
has been published for as long as that takes (`spread`, which `root_gate.py` asks).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from discovery.kubernetes.api import Api, ApiError, UnreachableError
from fairlead.identities.trust_config_maps import CONFIG_MAP, publish
from mesh.problems import Problem
from xds.server.server_certificates import ServerCertificate

_LOOK_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = (1.0, 30.0)
_log = logging.getLogger(__name__)


class Door(Protocol):
    """Where the certificate comes from that proxies with tokens are shown, and what they must trust."""

    @property
    def bundle(self) -> bytes: ...  # noqa: D102 - the authorities to trust (PEM); empty as long as none is known

    @property
    def problems(self) -> Sequence[Problem]: ...  # noqa: D102 - what an operator should look after

    def listen(self, told: Callable[[bytes], None]) -> None:
        """Have `told` called with the bundle at every change of it, and now if there is one."""

    def certificate(self) -> ServerCertificate:
        """The server's certificate of the moment; may be asked from any thread."""

    def load(self, documents: Mapping[str, bytes]) -> None:
        """Take in what an earlier run stored."""

    async def run(self) -> None:
        """Keep it, without end."""


class OwnDoor:
    """A `Door` of our own authority. `mount_time` is how long, in seconds, pods take to see a changed ConfigMap."""

    def __init__(
        self,
        api: Api,
        certificate: Callable[[], ServerCertificate],
        *,
        namespace: str,
        mount_time: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._certificate = certificate
        self._namespace = namespace
        self._mount_time = mount_time
        self._monotonic = monotonic
        self._bundle = b""
        self._published = b""
        self._published_at = 0.0
        self._listeners: list[Callable[[bytes], None]] = []
        self._bell = asyncio.Event()
        self._trouble = ""
        self._others = False

    @property
    def bundle(self) -> bytes:
        """See `Door.bundle`."""
        return self._bundle

    def changed(self, bundle: bytes) -> None:
        """What is to be trusted is this from now on (PEM)."""
        if bundle == self._bundle:
            return
        self._bundle = bundle
        self._bell.set()
        for told in self._listeners:
            told(bundle)

    def listen(self, told: Callable[[bytes], None]) -> None:
        """See `Door.listen`."""
        self._listeners.append(told)
        if self._bundle:
            told(self._bundle)

    def certificate(self) -> ServerCertificate:
        """See `Door.certificate`."""
        return self._certificate()

    def load(self, documents: Mapping[str, bytes]) -> None:
        """Nothing of an earlier run is needed: the authority is opened before anybody is let in."""

    def spread(self, roots: bytes) -> bool:
        """Whether pods have these roots (PEM) by now."""
        return roots == self._published and self._monotonic() - self._published_at >= self._mount_time

    async def run(self) -> None:
        """See `Door.run`."""
        pause = _RETRY_SECONDS[0]
        while True:
            self._bell.clear()
            try:
                await self.publish()
                self._note("")
                pause = _RETRY_SECONDS[0]
                wait = _LOOK_SECONDS * random.uniform(0.9, 1.1)  # noqa: S311 - replicas spread
            except (ApiError, UnreachableError) as error:
                self._note(str(error))
                wait = pause * random.uniform(0.5, 1.0)  # noqa: S311
                pause = min(pause * 2, _RETRY_SECONDS[1])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._bell.wait()

    async def publish(self) -> None:
        """Have the ConfigMap say what is to be trusted.

        Raises:
            ApiError, UnreachableError: as the API server has it.
        """
        bundle = self._bundle
        if not bundle:
            return
        found = await publish(self._api, self._namespace, bundle)
        # What stood there was ours, and is somebody's now: who else keeps it has another authority.
        self._others = bundle == self._published and found not in (bundle, b"")
        if bundle != self._published:
            self._published, self._published_at = bundle, self._monotonic()

    @property
    def problems(self) -> Sequence[Problem]:
        """See `Door.problems`."""
        if self._others:
            return (
                Problem(
                    "AuthorityNotShared",
                    "error",
                    "",
                    f"ConfigMap {self._namespace}/{CONFIG_MAP} told of another authority than ours a moment ago:"
                    " another Fairlead here has an authority of its own, and proxies cannot trust both",
                    "Give all replicas one that they share: --ca secret:NAME, files:DIR or vault:URL#MOUNT/ROLE",
                ),
            )
        if self._trouble:
            fix = "Let Fairlead's account get and patch ConfigMaps in its namespace"
            words = f"ConfigMap {self._namespace}/{CONFIG_MAP} cannot be kept: {self._trouble}"
            return (Problem("RootsNotPublished", "error", "", words, fix),)
        return ()

    def _note(self, trouble: str) -> None:
        """Log a trouble, once per change of it."""
        if trouble and trouble != self._trouble:
            _log.error("what pods are to trust is not published: %s", trouble)
        self._trouble = trouble
