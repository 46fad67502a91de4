"""How proxies and agents come in by certificates of our own authority, and how agents get theirs.

Wires the authority (`authority.py`) to the xDS server: the certificate that it shows, whom it believes, and
the service that issues (`issuance.py`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

from fairlead.addresses import parse_address
from fairlead.errors import CommandError
from fairlead.identities.authority import Identities
from fairlead.identities.issuance import Issuance
from fairlead.identities.own_certificate import OwnCertificate
from fairlead.identities.tokens import server_names as names_for_pods
from fairlead.identities.tokens import with_oidc
from fairlead.kubernetes.clusters import home_namespace
from fairlead.security import by_own_authority, tokens_address
from fairlead.settings import Settings
from fairlead.tasks import Tasks
from mesh.certificates import KeyPair
from mesh.model import TRUST_BUNDLES, Audience
from mesh.spiffe import SpiffeId, TrustDomain
from mesh.tables import Commit, Engine
from sds.authority import Authority, AuthorityError
from sds.outer import leads_to
from xds.server.authentication import Authentication, NotAuthenticatedError, Reviewer, Vouched
from xds.server.gatekeeper import Gatekeeper
from xds.server.serve import Tokens
from xds.server.server_certificates import ServerCertificate


class Nobody:
    """Reviews tokens where no platform does: none is good."""

    async def review(self, token: str, *, caller: str) -> Vouched:  # noqa: ARG002 - as `Reviewer` has it
        """See `Reviewer.review`."""
        raise NotAuthenticatedError("nobody here reviews tokens of platforms")


class IdentityWay:
    """The way in by our own certificates. Without an authority it is there, and nobody gets anything."""

    def __init__(
        self,
        settings: Settings,
        identities: Identities,
        engine: Engine,
        *,
        accounts: Callable[[Audience], frozenset[str]],
        reviewer: Reviewer | None,
    ) -> None:
        self._settings = settings
        self._identities = identities
        self._engine = engine
        self._own: OwnCertificate | None = None
        self._api: OwnCertificate | None = None
        self._reviewer = reviewer if reviewer is not None else with_oidc(settings, Nobody())
        self.issuance = Issuance(
            lambda: identities.authority,
            lambda: identities.jwt,
            Authentication(settings.trust_domain, accounts, self._reviewer, self.believes),
            identities.join_tokens,
            self._bundles,
            identities.left,
            life=dt.timedelta(seconds=settings.ca_leaf_lifetime),
            clock=identities.now,
        )
        identities.gate.ask_too(self.issuance.seen)
        # Which authorities are tainted is in no row: agents hear of it, and nobody else.
        identities.listen(lambda _: self.issuance.note_bundles())

    def believes(self, chain: bytes) -> bool:
        """Whether a client's certificate (PEM, with what is above it) leads to a root of ours, where they have to."""
        authority = self._identities.authority
        if not by_own_authority(self._settings):
            return True
        return authority is not None and leads_to(chain, authority.bundle().roots)

    def services(self, _gate: Gatekeeper) -> Mapping[str, Mapping[str, Any]]:
        """What the xDS server serves beside its own."""
        return self.issuance.methods() if self._settings.ca else {}

    async def open(self) -> None:
        """Get the certificates that the xDS server and the API show, where those are to be ours.

        Raises:
            CommandError: the authority cannot give one.
        """
        authority, settings = self._identities.authority, self._settings
        if authority is None:
            return
        if not (settings.insecure_xds or settings.xds_cert) or token_door(settings):
            self._own = await self._obtained(authority, "/fairlead/xds", server_names(settings))
        if settings.api_tls and not settings.xds_cert:
            self._api = await self._obtained(authority, "/fairlead/api", api_names(settings))

    async def _obtained(self, authority: Authority, path: str, names: tuple[str, ...]) -> OwnCertificate:
        identity = SpiffeId(TrustDomain(self._settings.trust_domain), path)
        made = OwnCertificate(authority, identity, names, clock=self._identities.now)
        try:
            await made.obtain()
        except AuthorityError as error:
            raise CommandError(f"--ca: {identity} gets no certificate: {error}") from None
        return made

    def start(self, tasks: Tasks) -> None:
        """Keep the certificates fresh."""
        if self._own is not None:
            tasks.start("the xDS server's certificate", self._own.run())
        if self._api is not None:
            tasks.start("the API's certificate", self._api.run())

    def api_pair(self) -> KeyPair:
        """What the API shows now."""
        assert self._api is not None
        return self._api.current()

    def committed(self, commit: Commit) -> None:
        """A commit was published."""
        if commit.of(TRUST_BUNDLES):
            self.issuance.note_bundles()

    def certificate(self) -> ServerCertificate:
        """What the xDS server shows, and whose certificates it believes; asked from threads of gRPC's."""
        assert self._own is not None
        authority = self._identities.authority
        assert authority is not None
        pair = self._own.current()
        return ServerCertificate(pair.chain, pair.key.pem, client_ca=authority.bundle().pem())

    def door_certificate(self) -> ServerCertificate:
        """The same where tokens are shown, and no certificates demanded."""
        whole = self.certificate()
        return ServerCertificate(whole.chain, whole.key)

    def tokens(self) -> Tokens:
        """The way in for agents that have no certificate yet, at an address of its own."""
        return Tokens(certificate=self.door_certificate, reviewer=self._reviewer, address=self._settings.xds_tokens)

    def _bundles(self) -> Mapping[str, tuple[bytes, bool]]:
        rows = dict(self._engine.rows(TRUST_BUNDLES))
        return {name: (row.roots, row.own) for name, row in rows.items()}


def api_names(settings: Settings) -> tuple[str, ...]:
    """What users may call the API: what the settings say, and where it listens; on loopback `localhost` too."""
    address = parse_address(settings.api, what="--api")
    reachable = () if address.host in ("0.0.0.0", "::") else (address.host,)  # noqa: S104 - compared, not bound
    near = ("localhost",) if address.is_loopback else ()
    return tuple(dict.fromkeys((*settings.api_names, *reachable, *near)))


def server_names(settings: Settings) -> tuple[str, ...]:
    """What proxies may call the xDS server: what the settings say, and where it listens; for pods, its Service too."""
    addresses = (settings.xds, settings.xds_tokens)
    hosts = [parse_address(address, what="--xds").host for address in addresses if address]
    reachable = [host for host in hosts if host not in ("0.0.0.0", "::")]  # noqa: S104 - compared, not bound
    in_cluster = names_for_pods(settings, settings.xds_tokens, home_namespace(settings)) if token_door(settings) else ()
    return tuple(dict.fromkeys((*in_cluster, *settings.xds_names, *reachable)))


def token_door(settings: Settings) -> bool:
    """Whether proxies in clusters come in with tokens."""
    return bool(settings.kubernetes) and tokens_address(settings) is not None
