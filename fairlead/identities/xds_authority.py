"""Where the xDS server's certificate comes from in Kubernetes without `--ca`: an authority that replicas share.

`sds/bootstrap_authority.py` makes and rotates it, this module keeps it: Secret `fairlead-xds-authority` in Fairlead's
namespace (its key is read and written, and shown to nobody), ConfigMap `fairlead-ca` beside it with what proxies must
trust. The first replica creates the Secret; whoever comes second finds it there and takes what is in it. A change is
written over the version that was read, so that of two replicas which find the same thing due one wins.

It makes every replica's certificate from the same authority, each with a key of its own. That certificate, never the
authority's key, is kept in the replica's store: who starts anew while the API server is away shows it until it ends.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import datetime as dt
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from discovery.kubernetes.api import Api, ApiError, UnreachableError
from fairlead.identities.trust_config_maps import publish
from mesh.problems import Problem
from sds.bootstrap_authority import (
    Authorities,
    ServerLeaf,
    UnreadableAuthorityError,
    new_authority,
    read,
    read_leaf,
    rotated,
)
from xds.server.server_certificates import ServerCertificate

SECRET: Final = "fairlead-xds-authority"  # noqa: S105 - its name

_LEAF: Final = "server"
_LOOK_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = (1.0, 30.0)
_LABELS: Final = {"app.kubernetes.io/managed-by": "fairlead"}

_log = logging.getLogger(__name__)


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""


class _Secret(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()
    data: dict[str, str] | None = None

    def __repr__(self) -> str:
        return "_Secret([redacted])"


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class XdsAuthority:
    """The authority as this replica knows it. `names` are what proxies call the server: DNS names and addresses.

    `keep` stores documents, by name.
    """

    def __init__(
        self,
        api: Api,
        *,
        namespace: str,
        names: Sequence[str],
        keep: Callable[[Mapping[str, bytes | None]], None] = lambda _: None,
        clock: Callable[[], dt.datetime] = _utc_now,
    ) -> None:
        self._api = api
        self._keep = keep
        self._stored = b""
        self._secrets = f"/api/v1/namespaces/{namespace}/secrets"
        self._namespace = namespace
        self._clock = clock
        self._leaf = ServerLeaf(names, clock=clock)
        self._kept: Authorities | None = None
        self._listeners: list[Callable[[bytes], None]] = []
        self._trouble = ""

    @property
    def bundle(self) -> bytes:
        """The authorities that proxies must trust (PEM); empty as long as the Secret could not be read."""
        return self._kept.bundle() if self._kept is not None else b""

    @property
    def problems(self) -> Sequence[Problem]:
        """None but what is logged: proxies go on with what they have."""
        return ()

    def listen(self, told: Callable[[bytes], None]) -> None:
        """Have `told` called with the bundle at every change of it, and now if there is one."""
        self._listeners.append(told)
        if self._kept is not None:
            told(self.bundle)

    def certificate(self) -> ServerCertificate:
        """The server's certificate of the moment; may be asked from any thread."""
        leaf = self._leaf.current()
        return ServerCertificate(chain=leaf.chain(), key=leaf.key.pem())

    def load(self, documents: Mapping[str, bytes]) -> None:
        """Take in what an earlier run stored."""
        pem = documents.get(_LEAF)
        if pem is None:
            return
        try:
            self._leaf.resume(read_leaf(pem))
        except UnreadableAuthorityError as error:
            _log.warning("the stored certificate of the xDS server is left out: %s", error)

    async def run(self) -> None:
        """Keep it, without end."""
        pause = _RETRY_SECONDS[0]
        while True:
            try:
                await self.agree()
                self._note("")
                pause = _RETRY_SECONDS[0]
                await asyncio.sleep(_LOOK_SECONDS * random.uniform(0.9, 1.1))  # noqa: S311 - replicas spread
                continue
            except (ApiError, UnreachableError) as error:
                self._note(_words(error))
            except UnreadableAuthorityError as error:
                self._note(
                    f"Secret {self._namespace}/{SECRET} is no authority of ours: {error}. Fix: delete it; a new one is"
                    " made, and proxies read it by themselves"
                )
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(pause * 2, _RETRY_SECONDS[1])

    async def agree(self) -> None:
        """Read what is kept, change what is due, publish what proxies must trust.

        Raises:
            ApiError, UnreachableError: as the API server has it.
            UnreadableAuthorityError: the Secret holds something else.
        """
        kept, version = await self._read_or_create()
        due = rotated(kept, self._clock())
        if due is not kept:
            try:
                await self._api.request("PUT", f"{self._secrets}/{SECRET}", body=self._body(due, version))
                _log.info("the authority of the xDS server has been rotated")
            except ApiError as error:
                if error.status != 409:
                    raise
                due, _ = await self._read_or_create()  # another replica was first: what it wrote counts
        before = self.bundle
        self._kept = due
        self._leaf.use(due.active)
        if (pem := self._leaf.current().to_pem()) != self._stored:
            self._stored = pem
            self._keep({_LEAF: pem})
        await publish(self._api, self._namespace, self.bundle)
        if self.bundle != before:
            for told in self._listeners:
                told(self.bundle)

    async def _read_or_create(self) -> tuple[Authorities, str]:
        path = f"{self._secrets}/{SECRET}"
        try:
            return _parse(await self._api.request("GET", path))
        except ApiError as error:
            if error.status != 404:
                raise
        # Deleted by hand while we run: what proxies trust already is put back.
        made = self._kept or Authorities(new_authority(self._clock()))
        try:
            return _parse(await self._api.request("POST", self._secrets, body=self._body(made)))
        except ApiError as error:
            if error.status != 409 or error.reason != "AlreadyExists":
                raise
        return _parse(await self._api.request("GET", path))

    def _body(self, authorities: Authorities, version: str = "") -> bytes:
        metadata: dict[str, Any] = {"name": SECRET, "namespace": self._namespace, "labels": _LABELS}
        if version:
            metadata["resourceVersion"] = version
        data = {name: base64.b64encode(pem).decode() for name, pem in authorities.to_data().items()}
        return msgspec.json.encode(
            {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}
        )

    def _note(self, trouble: str) -> None:
        """Log a trouble, once per change of it."""
        if trouble and trouble != self._trouble:
            _log.error("the authority of the xDS server: %s", trouble)
        elif self._trouble and not trouble:
            _log.info("the authority of the xDS server is there again")
        self._trouble = trouble


def _parse(body: bytes) -> tuple[Authorities, str]:
    try:
        secret = msgspec.json.decode(body, type=_Secret)
        data = {name: base64.b64decode(value, validate=True) for name, value in (secret.data or {}).items()}
    except (msgspec.DecodeError, binascii.Error):
        raise UnreadableAuthorityError("it cannot be decoded") from None
    return read(data), secret.metadata.resource_version


def _words(error: ApiError | UnreachableError) -> str:
    if isinstance(error, ApiError) and error.status == 403:
        return (
            f"{error}. Fix: let Fairlead's account get, create and update Secrets, and get, create and patch"
            " ConfigMaps, in its namespace"
        )
    return str(error)
