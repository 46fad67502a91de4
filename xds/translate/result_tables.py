"""What became of objects in the resources that they have a part in, gathered to be handed back to the model.

The model tells of it in statuses, and knows no resource; so what is found here becomes rows of an input
(`mesh.results`).
"""

from __future__ import annotations

from collections.abc import Iterable

from mesh.attachments import HostKey
from mesh.results import RESULTS, Result, ResultKey
from mesh.tables import Change, Commit, Look, derived, each
from xds.resources import Resource, ResourceKey
from xds.schema.type_urls import TYPE_CLUSTER
from xds.translate import names
from xds.translate.cluster_tables import CLUSTERS, GATEWAY_CLUSTERS
from xds.translate.http_route import BuiltRoute, RouteAt
from xds.translate.listener_tables import GATEWAY_LISTENERS, SIDECAR_LISTENERS
from xds.translate.route_tables import ROUTES, VIRTUAL_HOSTS
from xds.translate.virtual_host import BuiltVirtualHost, domain


def _of_resource(key: ResourceKey, row: Resource) -> Iterable[ResultKey]:
    return [ResultKey(at, _called(key)) for at, _ in row.results]


def _called(key: ResourceKey) -> str:
    """As people call it."""
    if key.type_url == TYPE_CLUSTER:
        return f"cluster {key.name}"
    if key.scope.startswith("sidecar/"):
        audience = names.audience_of(key.scope)
        return f"listener {key.name} beside {audience.namespace}/{audience.name}"
    namespace, name, _ = names.gateway_of(key.scope)
    return f"listener {key.name} of Gateway {namespace}/{name}"


def _of_route(key: RouteAt, row: BuiltRoute) -> Iterable[ResultKey]:
    return [ResultKey(at, str(key.route)) for at, _ in row.results]


def _of_host(key: HostKey, row: BuiltVirtualHost) -> Iterable[ResultKey]:
    called = f"virtual host {domain(key.hostname)} of Gateway {key.gateway.namespace}/{key.gateway.name}"
    return [ResultKey(at, called) for at, _ in row.results]


_RESOURCES = (CLUSTERS, GATEWAY_CLUSTERS, GATEWAY_LISTENERS, SIDECAR_LISTENERS)
_RESOURCES_BY_RESULT = tuple(table.index("result", _of_resource) for table in _RESOURCES)
_ROUTES_BY_RESULT = ROUTES.index("result", _of_route)
_HOSTS_BY_RESULT = VIRTUAL_HOSTS.index("result", _of_host)


@derived(
    "found",
    *(each(table, _of_resource) for table in _RESOURCES),
    each(ROUTES, _of_route),
    each(VIRTUAL_HOSTS, _of_host),
)
def FOUND(key: ResultKey, look: Look) -> Result | None:  # noqa: N802
    """What became of each object in each resource; in one of several forms, the first in which something is wrong."""
    told = [row.results for index in _RESOURCES_BY_RESULT for row in look.rows(index, key)]
    told += [row.results for row in look.rows(_ROUTES_BY_RESULT, key)]
    told += [row.results for row in look.rows(_HOSTS_BY_RESULT, key)]
    problems = [problem for results in told for at, problem in results if at == key.object]
    return Result(next((problem for problem in problems if problem), "")) if told else None


def results_of(commit: Commit) -> list[Change]:
    """What the model is to be told after a commit."""
    return [Change(RESULTS, key, new) for key, (_, new) in commit.of(FOUND).items()]
