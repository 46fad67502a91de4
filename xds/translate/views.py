"""Views: which resources each audience sees, type by type.

Every Gateway of ours has its views from the start, so that its configuration is ready before the first proxy comes;
sidecars, gRPC clients and gateways over state-of-the-world have theirs while they are connected. An audience that has
nothing of a type has an empty view of it, which is an answer; an unknown audience has none. What audiences with the
same routes share is listed once for them all (`SHARED_VIEWS`), to which each adds its own few.

What a proxy rejected in its present version is overridden by what stands instead (`REJECTIONS`, DESIGN §5 S6), unless
the trouble is that proxy's own.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from mesh.audiences import SIGHTS, Sight
from mesh.backend_tls import ALL_TLS_POLICIES
from mesh.gateways import GATEWAYS, GatewayKey
from mesh.model import REJECTIONS, REJECTIONS_BY_AUDIENCE, Audience
from mesh.services import ClientsKey
from mesh.tables import Look, Reader, Table, derived, each
from xds.resources import Resource, ResourceKey, View, ViewKey
from xds.schema.type_urls import (
    TYPE_CLUSTER,
    TYPE_ENDPOINT,
    TYPE_EXTENSION_CONFIG,
    TYPE_LISTENER,
    TYPE_ROUTE,
    TYPE_SCOPED_ROUTE,
    TYPE_SECRET,
)
from xds.translate import names
from xds.translate.cluster_tables import (
    ASSIGNMENTS,
    CLUSTERS,
    GATEWAY_CLUSTERS,
    GATEWAY_CLUSTERS_BY_SCOPE,
    USES_BY_SCOPE,
    WORKLOAD_CLUSTERS,
    ZONAL_ASSIGNMENTS,
    ZONAL_ASSIGNMENTS_BY_SCOPE,
)
from xds.translate.ingress import ingress_cluster
from xds.translate.jwt_authn_tables import FILTER_CONFIGS, keys_for
from xds.translate.listener_tables import (
    GATEWAY_LISTENERS,
    GRPC_LISTENERS,
    SIDECAR_LISTENERS,
    egress_key,
    grpc_listener_key,
    ingress_key,
)
from xds.translate.mesh_tls_tables import MESH_TLS_CLUSTER_NAMES, MESH_TLS_CLUSTERS
from xds.translate.root_certificates import ROOT_CERTIFICATES, root_keys
from xds.translate.route_configuration_tables import (
    EGRESS_ROUTES,
    GATEWAY_ROUTES,
    GRPC_ROUTES,
    SCOPED_ROUTES,
)
from xds.translate.route_tables import SERVICE_HOSTS_BY_CLIENTS
from xds.translate.secret_tables import SECRETS, credential_keys, policy_secret, secret_keys
from xds.translate.upstream_tables import upstream_key

RESOURCE_TABLES: dict[str, tuple[Table[ResourceKey, Resource], ...]] = {
    TYPE_CLUSTER: (CLUSTERS, WORKLOAD_CLUSTERS, MESH_TLS_CLUSTERS, GATEWAY_CLUSTERS),
    TYPE_ENDPOINT: (ASSIGNMENTS, ZONAL_ASSIGNMENTS),
    TYPE_LISTENER: (GATEWAY_LISTENERS, SIDECAR_LISTENERS, GRPC_LISTENERS),
    TYPE_ROUTE: (EGRESS_ROUTES, GATEWAY_ROUTES, GRPC_ROUTES),
    TYPE_SCOPED_ROUTE: (SCOPED_ROUTES,),
    TYPE_SECRET: (SECRETS, ROOT_CERTIFICATES),
    TYPE_EXTENSION_CONFIG: (FILTER_CONFIGS,),
}


def _by_scope(key: ResourceKey, _row: Any) -> tuple[str]:
    return (key.scope,)


_BY_SCOPE = {
    type_url: tuple(table.index("scope", _by_scope) for table in RESOURCE_TABLES[type_url])
    for type_url in (TYPE_ROUTE, TYPE_SCOPED_ROUTE)
}
_GATEWAY_LISTENERS_BY_SCOPE = GATEWAY_LISTENERS.index("scope", _by_scope)

_NOTHING = View(())


class SharedKey(NamedTuple):
    """What all audiences that follow the routes of a scope see of one type."""

    scope: str
    type_url: str


class ZonalKey(NamedTuple):
    """The endpoints that audiences of a zone, or on one of its nodes, see which follow the routes of a scope."""

    scope: str
    zone: str
    node: str = ""


def _shared(key: Audience, _row: Sight) -> Iterable[SharedKey]:
    scope = routes_scope(key)
    return (SharedKey(scope, type_url) for type_url in RESOURCE_TABLES)


def _zonal(key: Audience, _row: Sight) -> tuple[ZonalKey, ...]:
    return (ZonalKey(routes_scope(key), key.zone, key.node),) if key.zone or key.node else ()


class MeshTlsKey(NamedTuple):
    """The clusters that audiences with a workload's certificate see which follow the routes of a scope."""

    scope: str


@derived("shared_views", each(SIGHTS, _shared))
def SHARED_VIEWS(key: SharedKey, look: Look) -> View | None:  # noqa: N802
    """What audiences share, once: among a thousand sidecars of a namespace a new service is listed a single time."""
    if key.type_url in (TYPE_CLUSTER, TYPE_ENDPOINT):
        return View(tuple(used for _, used in look.keys(USES_BY_SCOPE, (key.scope, key.type_url))))
    found = [look.keys(index, key.scope) for index in _BY_SCOPE.get(key.type_url, ())]
    return View(tuple(heapq.merge(*found)))


@derived("zonal_views", each(SIGHTS, _zonal))
def ZONAL_VIEWS(key: ZonalKey, look: Look) -> View:  # noqa: N802
    """The endpoints that all see alike, as the very same row, or with those of the zone or the node in their places."""
    everywhere = look(SHARED_VIEWS, SharedKey(key.scope, TYPE_ENDPOINT)) or _NOTHING
    scopes = [names.zone_scope(key.zone)] if key.zone else []
    scopes += [names.node_scope(key.node)] if key.node else []
    apart = {at.name: at for scope in scopes for at in look.keys(ZONAL_ASSIGNMENTS_BY_SCOPE, scope)}
    if not any(at.name in apart for at in everywhere.keys):
        return everywhere
    return View(tuple(apart.get(at.name, at) for at in everywhere.keys))


def _mesh_tls(key: Audience, _row: Sight) -> tuple[MeshTlsKey, ...]:
    return (MeshTlsKey(routes_scope(key)),) if key.mesh_tls else ()


@derived("mesh_tls_views", each(SIGHTS, _mesh_tls))
def MESH_TLS_VIEWS(key: MeshTlsKey, look: Look) -> View:  # noqa: N802
    """The clusters that all see alike, those with mutual TLS in the places of the plain ones."""
    everywhere = look(SHARED_VIEWS, SharedKey(key.scope, TYPE_CLUSTER)) or _NOTHING
    apart = {at.name: at for at in look.keys(MESH_TLS_CLUSTER_NAMES, "")}
    if not any(at.name in apart for at in everywhere.keys):
        return everywhere
    return View(tuple(sorted(apart.get(at.name, at) if not at.scope else at for at in everywhere.keys)))


def _views(key: Audience, _row: Sight) -> Iterable[ViewKey]:
    return (ViewKey(key, type_url) for type_url in RESOURCE_TABLES)


@derived("views", each(SIGHTS, _views))
def VIEWS(key: ViewKey, look: Look) -> View | None:  # noqa: N802
    """What each audience sees of each type."""
    view = _of_audience(look, key.audience, key.type_url)
    overrides = _overrides(look, key, view.keys)
    return View(view.keys, overrides) if overrides else view


def _of_audience(look: Look, audience: Audience, type_url: str) -> View:
    """What is shared, as the very same row where there is nothing else: a view of thousands is then compared once."""
    scope = routes_scope(audience)
    if (audience.zone or audience.node) and type_url == TYPE_ENDPOINT:
        return look(ZONAL_VIEWS, ZonalKey(scope, audience.zone, audience.node)) or _NOTHING
    shared = look(SHARED_VIEWS, SharedKey(scope, type_url)) or _NOTHING
    if audience.mesh_tls and type_url == TYPE_CLUSTER:
        shared = look(MESH_TLS_VIEWS, MeshTlsKey(scope)) or _NOTHING
    if audience.kind == "gateway" and type_url == TYPE_CLUSTER:
        shared = _with_own_clusters(look, scope, shared)
    own = _OWN[type_url](look, audience) if type_url in _OWN else ()
    if not own:
        return shared
    joined = list(shared.keys)
    for key in own:
        insort(joined, key)
    return View(tuple(joined))


def _with_own_clusters(look: Look, scope: str, shared: View) -> View:
    """The clusters with those that a Gateway shows a certificate of its own to in the places of the common ones."""
    apart = {at.name: at for at in look.keys(GATEWAY_CLUSTERS_BY_SCOPE, scope)}
    return View(tuple(sorted(apart.get(at.name, at) for at in shared.keys))) if apart else shared


def routes_scope(audience: Audience) -> str:
    """The scope whose routes an audience follows: a gateway's own, or that of its namespace's clients.

    A gateway's is the same over delta and SotW, and holds scopes as well as route configurations. A proxy asks for what
    its listeners name, and gets it also where its types come over streams of different variants, or its listeners from
    an earlier version of ours: without its scopes it would answer 404 until the listeners that replace them are warm.
    """
    if audience.kind == "gateway":
        return names.gateway_scope(audience.namespace, audience.name)
    return names.clients_scope(audience.namespace, grpc=audience.kind == "grpc")


def _workload(look: Look, audience: Audience) -> tuple[ResourceKey, ...]:
    if audience.kind != "sidecar" or not audience.port:
        return ()
    sight = look(SIGHTS, audience)
    return (ResourceKey(TYPE_CLUSTER, ingress_cluster(audience, sight.fronted_port if sight is not None else None)),)


def _listeners(look: Look, audience: Audience) -> tuple[ResourceKey, ...]:
    if audience.kind == "grpc":
        seen = look.keys(SERVICE_HOSTS_BY_CLIENTS, ClientsKey(audience.namespace, grpc=True))
        return tuple(grpc_listener_key(port) for port in seen)
    if audience.kind == "gateway":
        scope = names.gateway_listeners_scope(audience.namespace, audience.name, sotw=audience.sotw)
        return look.keys(_GATEWAY_LISTENERS_BY_SCOPE, scope)
    egress = (egress_key(audience),) if audience.egress_port else ()
    ingress = (ingress_key(audience),) if audience.ingress_port and audience.port else ()
    return egress + ingress + tuple(upstream_key(audience, each) for each in audience.upstreams)


def _secrets(look: Look, audience: Audience) -> tuple[ResourceKey, ...]:
    gateway = look(GATEWAYS, GatewayKey(audience.namespace, audience.name)) if audience.kind == "gateway" else None
    policies = look.keys(ALL_TLS_POLICIES, "") if audience.kind != "grpc" else ()
    return (
        *root_keys(look),
        *map(policy_secret, policies),
        *(secret_keys(GatewayKey(audience.namespace, audience.name), gateway) if gateway is not None else ()),
        *(credential_keys(look, routes_scope(audience)) if gateway is not None else ()),
    )


_OWN: dict[str, Callable[[Look, Audience], tuple[ResourceKey, ...]]] = {
    TYPE_CLUSTER: _workload,
    TYPE_LISTENER: _listeners,
    TYPE_SECRET: _secrets,
    TYPE_EXTENSION_CONFIG: keys_for,
}


def _overrides(
    look: Look, key: ViewKey, keys: tuple[ResourceKey, ...]
) -> tuple[tuple[ResourceKey, Resource | None], ...]:
    rejected = [at for at in look.keys(REJECTIONS_BY_AUDIENCE, key.audience.kin) if at.type_url == key.type_url]
    if not rejected:
        return ()
    by_name = {at.name: at for at in keys}
    found: dict[ResourceKey, Resource | None] = {}
    for at in rejected:
        place = by_name.get(at.name)
        stands = present(look, place) if place is not None else None
        row = look(REJECTIONS, at)
        if place is None or stands is None or row is None or stands.version != at.version or not row.everywhere:
            continue
        found[place] = (
            Resource(key.type_url, at.name, row.last_good_version, row.last_good, row.last_good_needs, stands.eds)
            if row.last_good is not None
            else None
        )
    return tuple(sorted(found.items(), key=lambda item: item[0]))


def present(look: Reader, key: ResourceKey) -> Resource | None:
    """The resource at a key, as it was derived last."""
    rows = (look(table, key) for table in RESOURCE_TABLES[key.type_url])
    return next((row for row in rows if row is not None), None)
