"""The tables of gateways' hostnames: where a listener's requests come in, and which hosts it answers for.

    ENTRANCES      a programmed listener: its filter chain, and the listeners it shares a port with
    HOSTS          a hostname on a listener: its route objects, and the scope in which its virtual host stands
    SHARED_HOSTS   a listener's exact hostname on an HTTPS port: the scope that answers 421 in the chains of the others
    SOTW_GATEWAYS  a Gateway some of whose proxies speak state-of-the-world, and get all routes of a chain in one

Then `route_tables` makes virtual hosts of them, and `route_configuration_tables` scopes and, for SOTW_GATEWAYS, route
configurations of whole chains. A changed route touches its own row of ROUTES, the virtual hosts of its hostnames and
their scopes, whatever else there is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from mesh.attachments import ATTACHMENTS, ROUTES_BY_HOST, Attachment, HostKey, ListenerKey
from mesh.gateways import GATEWAYS, Gateway, GatewayKey
from mesh.hostnames import ANY, wider
from mesh.listeners import GatewayListener
from mesh.model import AUDIENCES, Audience, Connected, ObjectKey
from mesh.request_authentication import section
from mesh.route_places import NOWHERE, place_of
from mesh.tables import Look, derived, each
from mesh.unjudged import is_unjudged
from xds.resources import ResourceKey
from xds.schema.type_urls import TYPE_SCOPED_ROUTE
from xds.translate import names
from xds.translate.scoped_routes import is_broad, scope_name


class ChainKey(NamedTuple):
    """A filter chain of a gateway: `listener` names the HTTPS listener, and is empty for all HTTP ones of a port."""

    gateway: GatewayKey
    port: int
    listener: str

    @property
    def name(self) -> str:
        """The chain's name, which is also that of its routes."""
        return f"https-{self.port}-{self.listener}" if self.listener else f"http-{self.port}"

    @property
    def scope(self) -> str:
        """The scope of its resources."""
        return names.gateway_scope(*self.gateway)


class ListenerEntrance(msgspec.Struct, frozen=True):
    """Where a listener's requests come in, and its hostname.

    `place` is from where its routes inherit RoutePolicies, if from anywhere (`mesh.route_places`). `unjudged`: its
    clients may show any certificate (`mesh.unjudged`).
    """

    chain: ChainKey
    hostname: str
    place: ListenerKey = NOWHERE
    unjudged: bool = False

    @property
    def scheme(self) -> str:
        """The scheme of requests."""
        return "https" if self.chain.listener else "http"


class Host(msgspec.Struct, frozen=True):
    """A hostname on a chain: its route objects (sorted) and the scope in which its virtual host stands.

    `ranks` says of each route how much wider the hostname is that it names itself; empty where none does.
    `misdirected` says that it is another listener's, and that requests for it are answered 421. `section` names the
    listener where that makes a difference to whose tokens requests need (`mesh.request_authentication`), `place` from
    where its routes inherit RoutePolicies, if from anywhere. `unjudged` is as in ListenerEntrance.
    """

    chain: ChainKey
    scheme: str
    routes: tuple[ObjectKey, ...]
    resource: ResourceKey
    misdirected: bool = False
    section: str = ""
    place: ListenerKey = NOWHERE
    ranks: tuple[int, ...] = ()
    unjudged: bool = False


def chain_key(gateway: GatewayKey, listener: GatewayListener) -> ChainKey:
    """The chain that serves a programmed listener."""
    return ChainKey(gateway, listener.port, listener.name if listener.protocol == "HTTPS" else "")


def _programmed(key: GatewayKey, row: Gateway) -> Iterable[ListenerKey]:
    return (ListenerKey(key, listener.name) for listener in row.listeners if listener.programmed and listener.http)


def _own_hosts(key: GatewayKey, row: Gateway) -> Iterable[HostKey]:
    """The hostnames that listeners answer for without any route: their own, and on HTTPS their neighbours' wide ones.

    Those that mean one host are in SHARED_HOSTS.
    """
    served = [listener for listener in row.listeners if listener.programmed]
    broad = [listener for listener in served if is_broad(listener.hostname)]
    for listener in served:
        if not listener.http:
            continue
        if listener.hostname != ANY:
            yield HostKey(key, listener.name, listener.hostname)
        if listener.protocol == "HTTPS":
            yield from (HostKey(key, listener.name, other.hostname) for other in broad if other.place == listener.place)


def _attached_hosts(_key: ObjectKey, row: Attachment) -> Iterable[HostKey]:
    return (HostKey(at.gateway, at.listener, host) for at in row.listeners() for host in at.hostnames)


@derived("entrances", each(GATEWAYS, _programmed))
def ENTRANCES(key: ListenerKey, look: Look) -> ListenerEntrance | None:  # noqa: N802
    """Each listener that Envoy gets."""
    gateway = look(GATEWAYS, key.gateway)
    listener = gateway.listener(key.listener) if gateway is not None else None
    if gateway is None or listener is None or not listener.http:
        return None
    return ListenerEntrance(
        chain=chain_key(key.gateway, listener),
        hostname=listener.hostname,
        place=place_of(look, key.gateway, listener),
        unjudged=is_unjudged(listener),
    )


@derived("hosts", each(GATEWAYS, _own_hosts), each(ATTACHMENTS, _attached_hosts))
def HOSTS(key: HostKey, look: Look) -> Host | None:  # noqa: N802
    """Each hostname under which a filter chain answers.

    A listener's own hostname answers 404 where no route has it, which keeps listeners apart: a request for it never
    reaches the routes of a wider one. On HTTPS the hostnames of the port's other listeners answer 421, here those that
    are wide, and those for which a route of this one asks in vain.
    """
    entrance = look(ENTRANCES, ListenerKey(key.gateway, key.listener))
    if entrance is None:
        return None
    chain = entrance.chain
    resource = ResourceKey(TYPE_SCOPED_ROUTE, scope_name(chain.name, key.hostname), chain.scope)
    if _owns(look, entrance, key.hostname):
        listener = section(look, key.gateway, key.listener)
        routes = look.keys(ROUTES_BY_HOST, key)
        # Only for the listener's own hostname can a route have named a wider one.
        ranks = _ranks(look, key, routes) if key.hostname == entrance.hostname != ANY else ()
        return Host(
            chain,
            entrance.scheme,
            routes,
            resource,
            section=listener,
            place=entrance.place,
            ranks=ranks,
            unjudged=entrance.unjudged,
        )
    if entrance.scheme == "https" and look.keys(LISTENERS_BY_HOST, _host_on_port(entrance, key.hostname)):
        return Host(chain, entrance.scheme, (), resource, misdirected=True)
    return None


class HostOnPort(NamedTuple):
    """A listener's hostname among those of a Gateway's port."""

    gateway: GatewayKey
    port: int
    hostname: str


def _hosts_on_ports(key: GatewayKey, row: Gateway) -> Iterable[HostOnPort]:
    served = (listener for listener in row.listeners if listener.programmed and listener.protocol != "UDP")
    return (HostOnPort(key, listener.port, listener.hostname) for listener in served)


# One look for one name: what another listener of the port comes or goes for is then no news for the hosts of the rest.
LISTENERS_BY_HOST = GATEWAYS.index("host", _hosts_on_ports)


def _host_on_port(entrance: ListenerEntrance, hostname: str) -> HostOnPort:
    return HostOnPort(entrance.chain.gateway, entrance.chain.port, hostname)


def _owns(look: Look, entrance: ListenerEntrance, hostname: str) -> bool:
    """Whether requests for a hostname belong to this listener and not to a narrower one on the port."""
    for name in wider(hostname):
        if name == entrance.hostname:
            return True
        if look.keys(LISTENERS_BY_HOST, _host_on_port(entrance, name)):
            return False
    return False


def _ranks(look: Look, key: HostKey, routes: tuple[ObjectKey, ...]) -> tuple[int, ...]:
    """The rank of each route for a hostname; none where all are first."""
    rows = (look(ATTACHMENTS, route) for route in routes)
    ranks = tuple(row.rank(key) if row is not None else 0 for row in rows)
    return ranks if any(ranks) else ()


class SharedHost(msgspec.Struct, frozen=True):
    """The scope that answers 421 for a hostname."""

    resource: ResourceKey


def _shared_hosts(key: GatewayKey, row: Gateway) -> Iterable[HostOnPort]:
    """The exact hostnames of ports where a chain may be asked for another's; a listener alone has nobody to ask."""
    ports: dict[int, list[GatewayListener]] = {}
    for listener in row.listeners:
        if listener.programmed and listener.protocol in ("HTTPS", "TLS"):
            ports.setdefault(listener.port, []).append(listener)
    for port, sharing in ports.items():
        if len(sharing) > 1 and any(listener.http for listener in sharing):
            yield from (HostOnPort(key, port, one.hostname) for one in sharing if not is_broad(one.hostname))


@derived("shared_hosts", each(GATEWAYS, _shared_hosts))
def SHARED_HOSTS(key: HostOnPort, look: Look) -> SharedHost:  # noqa: N802, ARG001
    """Each exact hostname of an HTTPS port, once for all of its chains but its own, which knows it before."""
    scope = names.gateway_scope(*key.gateway)
    return SharedHost(ResourceKey(TYPE_SCOPED_ROUTE, scope_name(f"https-{key.port}", key.hostname), scope))


HOSTS_BY_RESOURCE = HOSTS.index("resource", lambda _, row: (row.resource,))


def _sotw(key: Audience, _row: Connected) -> tuple[GatewayKey, ...]:
    return (GatewayKey(key.namespace, key.name),) if key.sotw else ()


@derived("sotw_gateways", each(AUDIENCES, _sotw))
def SOTW_GATEWAYS(key: GatewayKey, look: Look) -> Gateway | None:  # noqa: N802
    """Each Gateway of which proxies that speak state-of-the-world are connected, or lately were."""
    return look(GATEWAYS, key)


def chains(key: GatewayKey, gateway: Gateway) -> Iterable[ChainKey]:
    """The filter chains of a Gateway."""
    return sorted({chain_key(key, listener) for listener in gateway.listeners if listener.programmed and listener.http})
