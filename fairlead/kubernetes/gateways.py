"""Whether proxies are run for the Gateways of a cluster, and what runs them if so: settings put into a `Provisioner`.

They are run where they can come in: with tokens (`fairlead/identities/tokens.py`), at an address that the settings
say or, in the cluster where this program runs itself, at its Service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from discovery.kubernetes.api import Api
from discovery.kubernetes.provision import Settings as ProvisionSettings
from discovery.kubernetes.provisioner import Provisioner
from discovery.kubernetes.source import KubernetesSource
from fairlead.addresses import Address, parse_address
from fairlead.errors import UsageError
from fairlead.identities.tokens import TokenWay, server_names
from fairlead.kubernetes.clusters import Clusters, home_namespace
from fairlead.kubernetes.gateway_pods import files_for
from fairlead.security import tokens_address
from fairlead.settings import Settings
from mesh.model import PROVISIONED, Provisioned, nothing_run_by
from mesh.tables import Change, Engine

NOWHERE = "none"


class Where(Protocol):
    """What is asked of a cluster (`fairlead.kubernetes.clusters.Cluster`)."""

    @property
    def api(self) -> Api: ...  # noqa: D102 - its API server

    @property
    def inside(self) -> bool: ...  # noqa: D102 - whether this program runs in it

    @property
    def source(self) -> KubernetesSource: ...  # noqa: D102


def provision(
    clusters: Clusters,
    settings: Settings,
    way: TokenWay | None,
    engine: Engine,
    submit: Callable[[Iterable[Change]], None],
    on_problems: Callable[[], None],
) -> None:
    """Have proxies run for the Gateways of those clusters where they can reach this program.

    `on_problems` is called when the problems of one have changed.

    Raises:
        UsageError: they are to be run, and have no way in.
    """
    namespace = home_namespace(settings)
    for cluster in clusters:
        cluster.look_up_definitions(submit)
        made = provisioner(cluster, settings, way, engine, submit, namespace=namespace)
        if made is None:
            submit([nobody(cluster.source.name)])
        else:
            cluster.provision(made, on_problems)


def nobody(source: str) -> Change:
    """The change that says: no proxies are run for the Gateways of this source; whoever likes starts them."""
    return Change(PROVISIONED, nothing_run_by(source), Provisioned(ready=True))


def gateway_address(settings: Settings, namespace: str, *, inside: bool) -> tuple[Address, str] | None:
    """Where the proxies of a cluster's Gateways reach this program, and the name in its certificate; None for nowhere.

    Raises:
        UsageError: the setting is no address, or proxies that come there have no way in.
    """
    tokens = tokens_address(settings)
    if settings.gateway_xds == NOWHERE or (not settings.gateway_xds and (tokens is None or not inside)):
        return None
    if tokens is None:
        raise UsageError(
            "--gateway-xds: proxies come in with tokens, and there is no way in for them."
            " Fix: --xds-tokens, or leave certificates and --insecure-xds out"
        )
    names = server_names(settings, tokens, namespace)
    if not settings.gateway_xds:
        return Address(names[0], parse_address(tokens or settings.xds, what="--xds-tokens").port), names[0]
    address = parse_address(settings.gateway_xds, what="--gateway-xds")
    return address, address.host if address.host in names else names[0]


def provisioner(
    cluster: Where,
    settings: Settings,
    way: TokenWay | None,
    engine: Engine,
    submit: Callable[[Iterable[Change]], None],
    *,
    namespace: str,
) -> Provisioner | None:
    """What runs the proxies of a cluster's Gateways; None: nobody does.

    Raises:
        UsageError: see `gateway_address`.
    """
    found = gateway_address(settings, namespace, inside=cluster.inside)
    if found is None or way is None:
        return None
    address, server_name = found
    authority = way.authority
    made = Provisioner(
        cluster.api,
        engine,
        source=cluster.source.name,
        settings=ProvisionSettings(
            image=settings.gateway_image,
            image_pull_policy=settings.gateway_image_pull_policy,
            service_type=settings.gateway_service_type,
            control_plane=str(address),
            token_audience=settings.xds_audience,
        ),
        render=files_for(address, server_name=server_name, ca=lambda: authority.bundle),
        submit=submit,
        settled=lambda: cluster.source.settled,
        namespaces=settings.kubernetes_namespaces,
    )
    authority.listen(lambda _: made.renew())
    return made
