"""The way in for proxies that show a service account token: who reviews it, with which certificate the server answers.

Wires `discovery/kubernetes/token_review.py`, `key_ring.py` beside it and a door (`token_door.py` where there
is an authority, else `xds_authority.py`) to what the xDS server asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from discovery.stores.store import Store
from fairlead.addresses import parse_address
from fairlead.identities.token_door import Door, OwnDoor
from fairlead.identities.trust_config_maps import BundleCopies
from fairlead.identities.xds_authority import XdsAuthority
from fairlead.kubernetes.clusters import Clusters, home_namespace
from fairlead.settings import Settings
from fairlead.stores.documents import DocumentWriter
from fairlead.tasks import Tasks
from mesh.problems import Problem
from xds.server.authentication import CannotReviewError, NotAuthenticatedError, Reviewer, Vouched
from xds.server.serve import Tokens
from xds.server.server_certificates import ServerCertificate

if TYPE_CHECKING:
    from discovery.kubernetes.token_review import TokenReviews
    from fairlead.identities.authority import Identities


class Reviews:
    """What the xDS server asks, answered by clusters."""

    def __init__(self, reviews: TokenReviews, zone: Callable[[str, str], str]) -> None:
        """`zone` tells the zone of a node: the cluster's name and the node's."""
        self._reviews = reviews
        self._zone = zone

    async def review(self, token: str, *, caller: str) -> Vouched:
        """Whose a token is.

        Raises:
            NotAuthenticatedError: nobody's, or not meant for us.
            CannotReviewError: it cannot be told now.
        """
        from discovery.kubernetes.token_review import BadTokenError, NoReviewError

        try:
            account = await self._reviews.account(token, caller=caller)
        except BadTokenError as error:
            raise NotAuthenticatedError(str(error)) from None
        except NoReviewError as error:
            raise CannotReviewError(str(error)) from None
        zone = self._zone(account.cluster, account.node) if account.node else ""
        return Vouched(account.namespace, account.name, account.expires_at, zone, account.node)


TOKEN_KEYS = "token-keys"  # noqa: S105 - a name
"""Where in the store the keys are that clusters sign tokens with."""
CERTIFICATES = "xds-certificates"
"""Where in the store the certificate is that the server showed last, with its key."""


class TokenWay:
    """The way in, for the server to open: `tokens`. `load` what an earlier run knew, `start`, and `flush` at the end.

    The first of `clusters` is the one in which Fairlead keeps what is its own. `certificate` is of our own authority,
    where `identities` have one.
    """

    def __init__(
        self,
        settings: Settings,
        address: str,
        clusters: Clusters,
        store: Store,
        identities: Identities | None,
        certificate: Callable[[], ServerCertificate],
    ) -> None:
        from discovery.kubernetes.key_ring import KeyRing
        from discovery.kubernetes.token_review import TokenReviews

        self._store = store
        self._stored = {name: DocumentWriter(store, name) for name in (TOKEN_KEYS, CERTIFICATES)}
        self._keys = KeyRing(clusters.places(), clusters.apis, self._stored[TOKEN_KEYS].save)
        [home, *_] = clusters.apis().values()
        namespace = home_namespace(settings)
        self.authority: Door
        if settings.ca and identities is not None:
            own = OwnDoor(home, certificate, namespace=namespace, mount_time=settings.ca_mount_time)
            identities.listen(own.changed)
            identities.gate.wait_for(own.spread)
            self.authority = own
        else:
            self.authority = XdsAuthority(
                home,
                namespace=namespace,
                names=server_names(settings, address, namespace),
                keep=self._stored[CERTIFICATES].save,
            )
        self._copies = BundleCopies(clusters.apis, settings.kubernetes_namespaces)
        self.authority.listen(self._copies.note)
        self.tokens = Tokens(
            certificate=self.authority.certificate,
            reviewer=with_oidc(
                settings,
                Reviews(
                    TokenReviews(clusters.apis, audience=settings.xds_audience, signatures=self._keys), clusters.zone
                ),
            ),
            address=address,
        )

    async def load(self) -> None:
        """Take in what an earlier run stored.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        self._keys.load(await self._store.documents(TOKEN_KEYS))
        self.authority.load(await self._store.documents(CERTIFICATES))

    def start(self, tasks: Tasks) -> None:
        """Keep certificate and keys fresh."""
        tasks.start("xds authority", self.authority.run())
        tasks.start("token keys", self._keys.run())
        tasks.start("copies of the trust bundle", self._copies.run())
        for name, writer in self._stored.items():
            tasks.start(f"{name} in the store", writer.run())

    def problems(self) -> Sequence[tuple[str, Problem]]:
        """What an operator should look after."""
        return [("ca", one) for one in self.authority.problems]

    async def flush(self) -> None:
        """Store what waits."""
        for writer in self._stored.values():
            await writer.flush()


def with_oidc(settings: Settings, reviewer: Reviewer) -> Reviewer:
    """A reviewer that knows the tokens of listed issuers too, where the settings list any.

    Raises:
        UsageError: the list cannot be used.
    """
    if not settings.oidc_issuers:
        return reviewer
    from fairlead.identities.oidc_callers import OidcCallers

    return OidcCallers(Path(settings.oidc_issuers), reviewer)


def server_names(settings: Settings, address: str, namespace: str) -> tuple[str, ...]:
    """What proxies may call the server: what the settings say, else the Service `fairlead` in our namespace.

    And where it listens, as far as that is an address that can be asked for.
    """
    host = parse_address(address or settings.xds, what="--xds-tokens").host
    reachable = () if host in ("0.0.0.0", "::") else (host,)  # noqa: S104 - compared, not bound
    given = settings.xds_names or (f"fairlead.{namespace}.svc", f"fairlead.{namespace}.svc.cluster.local")
    return tuple(dict.fromkeys((*given, *reachable)))
