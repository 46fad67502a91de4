"""The tables of gateways' routes: which hosts there are, how requests find them, and what is in them.

From the model to bytes in steps that each depend on little, so that a change costs what it changes:

    ENTRANCES  a programmed listener: its filter chain, and the listeners it shares a port with
    BROAD      hostnames that are no exact ones, which alone decide ROUTINGS
    ROUTINGS   a filter chain: scoped routes or RDS
    HOSTS      a hostname on a listener: its route objects, and the resource that holds it
    (ROUTES    a route object as Envoy routes: `route_tables`)
    VIRTUAL_HOSTS → SCOPED_ROUTES, ROUTE_CONFIGURATIONS

A changed route touches its own row of ROUTES, the virtual hosts of its hostnames and their scopes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from mesh.attachments import ATTACHMENTS, ROUTES_BY_HOST, Attachment, HostKey, ListenerKey
from mesh.gateways import GATEWAYS, Gateway, GatewayKey
from mesh.hostnames import ANY, best
from mesh.listeners import GatewayListener
from mesh.model import ObjectKey
from mesh.tables import Look, derived, each
from xds.resources import ResourceKey
from xds.schema.type_urls import TYPE_ROUTE, TYPE_SCOPED_ROUTE
from xds.translate import names
from xds.translate.scoped_routes import Scoping, scope_name, scoping


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
    """Where a listener's requests come in, its hostname, and those of the other listeners on its port."""

    chain: ChainKey
    hostname: str
    others: tuple[str, ...]

    @property
    def scheme(self) -> str:
        """The scheme of requests."""
        return "https" if self.chain.listener else "http"

    def owns(self, hostname: str) -> bool:
        """Whether requests for a hostname belong to this listener and not to a narrower one on the port."""
        return best((self.hostname, *self.others), hostname) == self.hostname


class Broad(msgspec.Struct, frozen=True):
    """That a hostname which is not an exact one has routes on a chain."""

    chain: ChainKey


class Routing(msgspec.Struct, frozen=True):
    """How a chain's requests find their routes: by scope, or over RDS where `scoping` is None.

    `misdirected` are the hostnames of other listeners, to be answered 421.
    """

    scoping: Scoping | None
    misdirected: tuple[str, ...] = ()


class Host(msgspec.Struct, frozen=True):
    """A hostname on a chain: its route objects (sorted) and the resource in which its virtual host stands."""

    chain: ChainKey
    scheme: str
    routes: tuple[ObjectKey, ...]
    resource: ResourceKey


def chain_key(gateway: GatewayKey, listener: GatewayListener) -> ChainKey:
    """The chain that serves a programmed listener."""
    return ChainKey(gateway, listener.port, listener.name if listener.protocol == "HTTPS" else "")


def _programmed(key: GatewayKey, row: Gateway) -> Iterable[ListenerKey]:
    return (ListenerKey(key, listener.name) for listener in row.listeners if listener.programmed)


def _own_hosts(key: GatewayKey, row: Gateway) -> Iterable[HostKey]:
    return (HostKey(key, each.name, each.hostname) for each in row.listeners if each.programmed and each.hostname)


def _attached_hosts(_key: ObjectKey, row: Attachment) -> Iterable[HostKey]:
    return (HostKey(at.gateway, at.listener, host) for at in row.listeners() for host in at.hostnames)


def _broad_hosts(key: ObjectKey, row: Attachment) -> Iterable[HostKey]:
    return (host for host in _attached_hosts(key, row) if host.hostname == ANY or host.hostname.startswith("*."))


@derived("entrances", each(GATEWAYS, _programmed))
def ENTRANCES(key: ListenerKey, look: Look) -> ListenerEntrance | None:  # noqa: N802
    """Each listener that Envoy gets."""
    gateway = look(GATEWAYS, key.gateway)
    listener = gateway.listener(key.listener) if gateway is not None else None
    if gateway is None or listener is None:
        return None
    others = sorted(
        each.hostname
        for each in gateway.listeners
        if each.programmed and each.port == listener.port and each.name != listener.name
    )
    return ListenerEntrance(chain=chain_key(key.gateway, listener), hostname=listener.hostname, others=tuple(others))


ENTRANCES_BY_CHAIN = ENTRANCES.index("chain", lambda _, row: (row.chain,))


@derived("broad_hosts", each(ATTACHMENTS, _broad_hosts))
def BROAD(key: HostKey, look: Look) -> Broad | None:  # noqa: N802
    """The wildcards, and the host that means any, under which routes answer."""
    entrance = look(ENTRANCES, ListenerKey(key.gateway, key.listener))
    return Broad(entrance.chain) if entrance is not None and entrance.owns(key.hostname) else None


BROAD_BY_CHAIN = BROAD.index("chain", lambda _, row: (row.chain,))


@derived("routings", each(ENTRANCES, lambda _, row: (row.chain,)))
def ROUTINGS(key: ChainKey, look: Look) -> Routing | None:  # noqa: N802
    """For each filter chain how its requests find their routes."""
    entrances = look.rows(ENTRANCES_BY_CHAIN, key)
    misdirected = entrances[0].others if key.listener else ()
    broad = (host.hostname for host in look.keys(BROAD_BY_CHAIN, key))
    return Routing(scoping=scoping(broad, answers_421=bool(misdirected)), misdirected=misdirected)


@derived("hosts", each(GATEWAYS, _own_hosts), each(ATTACHMENTS, _attached_hosts))
def HOSTS(key: HostKey, look: Look) -> Host | None:  # noqa: N802
    """Each hostname under which a listener answers; the listener's own answers 404 where no route has it.

    The latter keeps listeners apart: a request for a listener's hostname never reaches the routes of a wider one.
    """
    entrance = look(ENTRANCES, ListenerKey(key.gateway, key.listener))
    if entrance is None or not entrance.owns(key.hostname):
        return None
    chain = entrance.chain
    routing = look(ROUTINGS, chain)
    if routing is None:
        return None
    routes = look.keys(ROUTES_BY_HOST, key)
    if routing.scoping is None:
        return Host(chain, entrance.scheme, routes, ResourceKey(TYPE_ROUTE, chain.name, chain.scope))
    if not routes and not routing.scoping.is_shared(key.hostname):
        return None  # no scope answers 404 as well
    name = scope_name(chain.name, routing.scoping.scope_of(key.hostname))
    return Host(chain, entrance.scheme, routes, ResourceKey(TYPE_SCOPED_ROUTE, name, chain.scope))


HOSTS_BY_RESOURCE = HOSTS.index("resource", lambda _, row: (row.resource,))
