"""What the program knows, for those who ask over REST (`api.ports.World`): a reading window on engine and hub.

Everything is answered from memory on the event loop. Single rows and whole tables may be read at any time; provenance
and indexes may not while a large build runs in its thread, and then the answer is "in a moment".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from api.ports import (
    Distribution,
    EndpointView,
    NotFound,
    ProxyDetail,
    ProxyView,
    Question,
    Readiness,
    ServiceView,
    SourceProblem,
    Unavailable,
)
from fairlead.builder import Builder
from fairlead.views import (
    authorization_wire,
    code,
    effective_wire,
    endpoint_view,
    explanation_wire,
    proxy_view,
    service_view,
)
from mesh.attachments import ATTACHMENTS
from mesh.authorization import AUTHORIZATIONS, Caller
from mesh.client_policies import CLIENT_RULES, effective_client_policies
from mesh.explain import GatewayNotFoundError, explain
from mesh.gateways import GATEWAYS, GatewayKey
from mesh.model import (
    DECLARED,
    DISCOVERED_SERVICES,
    DISCOVERED_SERVICES_BY_NAME,
    REJECTIONS,
    Audience,
    ObjectKey,
    Rejection,
    RejectionKey,
    ServiceKey,
)
from mesh.objects import DECLARED_BY_OBJECT, OBJECTS
from mesh.policies import TRAFFIC
from mesh.problems import Problem
from mesh.proxyless import limits
from mesh.request_authentication import REQUIREMENTS, WORKLOAD_REQUIREMENTS, told
from mesh.route_places import effective_at_places
from mesh.route_rules import ROUTE_RULES, effective_policies
from mesh.services import ENDPOINTS, SERVICES
from mesh.statuses import STATUSES
from mesh.tables import Present, Table
from mesh.telemetry_policies import ROUTE_TELEMETRY, TELEMETRY_RULES, effective_telemetry
from xds.resources import ResourceKey
from xds.server.hub import Hub
from xds.server.states import ProxyState, too_old

_FAULT_FIX = "this is a defect of Fairlead; the last good version stands. Please report it"


class World:
    """See `api.ports.World`. The callables are what only the composition root can wire."""

    def __init__(
        self,
        builder: Builder,
        hub: Hub,
        *,
        resource_tables: frozenset[Table[Any, Any]],
        on_its_way: Callable[[ObjectKey], bool],
        source_problems: Callable[[], Sequence[SourceProblem]],
        waiting_for: Callable[[], Sequence[str]],
        load_reports: Callable[[], Sequence[Mapping[str, Any]]],
        metrics: Callable[[], tuple[bytes, str]],
    ) -> None:
        self._builder = builder
        self._engine = builder.engine
        self._hub = hub
        self._resource_tables = resource_tables
        self._on_its_way = on_its_way
        self._source_problems = source_problems
        self._waiting_for = waiting_for
        self._load_reports = load_reports
        self._metrics = metrics

    def status(self, key: ObjectKey) -> Mapping[str, Any] | None:
        """See `api.ports.World.status`."""
        status = self._engine.get(STATUSES, key)
        return status.to_json() if status is not None else None

    def services(self) -> Sequence[ServiceView]:
        """See `api.ports.World.services`."""
        rows = sorted(self._engine.rows(SERVICES).items())
        return [
            service_view(key, row, self._engine.get(ENDPOINTS, key), stale=self._is_stale(key)) for key, row in rows
        ]

    def _is_stale(self, key: ServiceKey) -> bool:
        if self._builder.building:
            return False
        discovered = (
            self._engine.get(DISCOVERED_SERVICES, at) for at in self._engine.group(DISCOVERED_SERVICES_BY_NAME, key)
        )
        return any(row is not None and row.stale for row in discovered)

    def endpoints(self, namespace: str | None, service: str | None) -> Sequence[EndpointView]:
        """See `api.ports.World.endpoints`."""
        rows = sorted(self._engine.rows(ENDPOINTS).items())
        return [
            endpoint_view(key, endpoint)
            for key, row in rows
            if namespace in (None, key.namespace) and service in (None, key.name)
            for endpoint in row.endpoints
        ]

    def proxies(self) -> Sequence[ProxyView]:
        """See `api.ports.World.proxies`."""
        audiences = self._audiences()
        states = ((self._hub.proxy(node), audiences[node]) for node in sorted(audiences))
        return [self._shown(state, among) for state, among in states if state is not None]

    def _audiences(self) -> dict[str, set[Audience]]:
        """The audiences of each proxy: more than one where its types come over streams of different variants."""
        found: dict[str, set[Audience]] = {}
        for member in self._hub.members():
            found.setdefault(member.proxy.node_id, set()).add(member.proxy.audience)
        return found

    def _shown(self, state: ProxyState, audiences: set[Audience]) -> ProxyView:
        withheld = {
            at.type_url: f"{at.name}: {row.detail}"
            for at, row in list(self._engine.rows(REJECTIONS).items())
            if at.audience in audiences and row.everywhere and self._refused(state.node_id, at, row)
        }
        return proxy_view(state, withheld=withheld)

    def _refused(self, node: str, at: RejectionKey, row: Rejection) -> bool:
        """Whether a proxy itself refused what is withheld; others of its audience have what they should have."""
        return node == row.node or node in self._hub.refusers(at.audience, at.type_url, at.name, at.version)

    def proxy(self, node: str) -> ProxyDetail | None:
        """See `api.ports.World.proxy`."""
        state = self._hub.proxy(node)
        if state is None:
            return None
        resources: dict[str, list[Mapping[str, Any]]] = {}
        for member in self._hub.members():
            if member.proxy.node_id != node:
                continue
            for type_url, held in sorted(member.stream.types.items()):
                rows = resources.setdefault(code(type_url), [])
                left_out = self._hub.left_out(member, type_url)
                for name, entry in self._hub.resources(member.proxy.audience, type_url).items():
                    if held.subscription is not None and held.subscription.wants(name):
                        acked = held.acked.get(name)
                        is_acked = acked is not None and acked.version == entry.version
                        row = {"name": name, "version": entry.version, "acked": is_acked}
                        rows.append(row | ({"leftOut": left_out[name]} if name in left_out else {}))
        view = self._shown(state, self._audiences()[node])
        return ProxyDetail(view, {name: resources[name] for name in view.types if name in resources})

    def distribution(self, key: ObjectKey) -> Distribution | None:
        """See `api.ports.World.distribution`."""
        self._not_while_building()
        row = self._engine.get(OBJECTS, key)
        if row is None:
            if self._on_its_way(key):
                return Distribution(revision=0, done=False, affected=0, acked=0)
            return None
        keys = sorted(
            {
                resource
                for declared in self._engine.group(DECLARED_BY_OBJECT, key)
                for resource in self._engine.dependents(DECLARED, declared, among=self._resource_tables)
            }
        )
        far = self._hub.distribution(keys)
        rejected = {node: self._words_of(node) for node in far.rejected} | self._withheld(keys)
        acked, pending = set(far.acked) - rejected.keys(), set(far.pending) - rejected.keys()
        return Distribution(
            revision=int(row.object.metadata.resource_version or 0),
            done=not pending and not rejected and not self._on_its_way(key),
            affected=len(acked) + len(pending) + len(rejected),
            acked=len(acked),
            pending=tuple(sorted(pending)),
            rejected=rejected,
            resources=tuple(f"{code(resource.type_url)} {resource.name}" for resource in keys),
            limits=limits(Present(self._engine), key) if any(map(_is_proxyless, acked | pending)) else (),
        )

    def _words_of(self, node: str) -> str:
        state = self._hub.proxy(node)
        if state is None:
            return ""
        refused = [one.detail for one in state.types if one.detail]
        left_out = [
            f"{code(one.type_url)} {name} is {too_old(state.version, fields)}"
            for one in state.types
            for name, fields in one.left_out.items()
        ]
        return "; ".join([*refused, *left_out])

    def _withheld(self, keys: Iterable[ResourceKey]) -> dict[str, str]:
        """The proxies from which some resources are withheld, since one of their audience refused them; its words."""
        named = {(key.type_url, key.name) for key in keys}
        refused = {
            at.audience: row.detail
            for at, row in list(self._engine.rows(REJECTIONS).items())
            if row.everywhere and (at.type_url, at.name) in named
        }
        return {
            node: refused[audience]
            for node, audiences in sorted(self._audiences().items())
            for audience in sorted(audiences)
            if audience in refused
        }

    def effective_policies(self) -> Sequence[Mapping[str, Any]]:
        """See `api.ports.World.effective_policies`."""
        self._not_while_building()
        traffic = list(self._engine.rows(TRAFFIC).items())
        routes = list(self._engine.rows(ROUTE_RULES).items())
        requirements = list(self._engine.rows(REQUIREMENTS).items())
        workloads = list(self._engine.rows(WORKLOAD_REQUIREMENTS).items())
        clients = list(self._engine.rows(CLIENT_RULES).items())
        gateways = list(self._engine.rows(TELEMETRY_RULES).items())
        traced = list(self._engine.rows(ROUTE_TELEMETRY).items())
        effective = (
            *told(requirements, workloads),
            *effective_client_policies(clients),
            *effective_policies(traffic, routes),
            *effective_at_places(Present(self._engine), list(self._engine.rows(ATTACHMENTS).items())),
            *effective_telemetry(gateways, traced),
        )
        return [effective_wire(one) for one in effective]

    def authorizations(self, caller: tuple[str, str] | None) -> Sequence[Mapping[str, Any]]:
        """See `api.ports.World.authorizations`."""
        self._not_while_building()
        asked = Caller(caller[1], caller[0]) if caller is not None else None
        return [authorization_wire(key, row, asked) for key, row in sorted(self._engine.rows(AUTHORIZATIONS).items())]

    def explain(self, question: Question) -> Mapping[str, Any]:
        """See `api.ports.World.explain`."""
        self._not_while_building()
        if question.gateway:
            namespace, _, name = question.gateway.rpartition("/")
            gateways = [GatewayKey(namespace or "default", name)]
        else:
            gateways = sorted(self._engine.rows(GATEWAYS))
        try:
            answers = [
                explain(self._engine, gateway, method=question.method, url=question.url, headers=question.headers)
                for gateway in gateways
            ]
        except GatewayNotFoundError as error:
            raise NotFound(str(error)) from error
        return {"gateways": [explanation_wire(answer) for answer in answers]}

    def _not_while_building(self) -> None:
        if self._builder.building:
            raise Unavailable("A large change is being built", fix="Ask again in a moment.")

    def load_reports(self) -> Sequence[Mapping[str, Any]]:
        """See `api.ports.World.load_reports`."""
        return self._load_reports()

    def problems(self) -> Sequence[SourceProblem]:
        """See `api.ports.World.problems`."""
        faults = [
            SourceProblem("fairlead", Problem("Fault", "error", f"{fault.table} {fault.key}", fault.error, _FAULT_FIX))
            for fault in list(self._engine.faults.values())
        ]
        return [*self._source_problems(), *faults]

    def readiness(self) -> Readiness:
        """See `api.ports.World.readiness`."""
        waiting = tuple(self._waiting_for())
        return Readiness(not waiting, waiting)

    def metrics(self) -> tuple[bytes, str]:
        """See `api.ports.World.metrics`."""
        return self._metrics()


def _is_proxyless(node: str) -> bool:
    return node.startswith("grpc~")
