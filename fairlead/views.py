"""Rows of the model and states of proxies as the API shows them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from api.ports import EndpointView, ProxyView, ServiceView, TypeView
from mesh.authorization import AuthorizationRule, Authorizations, Caller, Permission, TokenRule, deciding
from mesh.explain import Explanation, Share
from mesh.kinds import to_json
from mesh.model import Endpoint, ServiceKey
from mesh.policies import Told
from mesh.services import Service, ServiceEndpoints
from xds.schema.type_urls import CODES
from xds.server.lrs import Loads
from xds.server.states import ProxyState, TypeState

_TAKES_REQUESTS = frozenset({"Healthy", "Unknown", "Degraded"})


def service_view(key: ServiceKey, service: Service, endpoints: ServiceEndpoints | None, *, stale: bool) -> ServiceView:
    """A service with the number of its endpoints."""
    found = endpoints.endpoints if endpoints is not None else ()
    return ServiceView(
        namespace=key.namespace,
        name=key.name,
        ports=tuple({"name": port.name, "port": port.port, "protocol": port.protocol} for port in service.ports),
        sources=service.sources,
        endpoints=len(found),
        healthy=sum(endpoint.health in _TAKES_REQUESTS for endpoint in found),
        labels=dict(service.labels),
        export_to=service.export_to,
        stale=stale,
    )


def endpoint_view(key: ServiceKey, endpoint: Endpoint) -> EndpointView:
    """One endpoint of a merged service."""
    return EndpointView(
        namespace=key.namespace,
        service=key.name,
        address=endpoint.address,
        ports=dict(endpoint.ports),
        health=endpoint.health,
        weight=endpoint.weight,
        labels=dict(endpoint.labels),
        region=endpoint.locality.region,
        zone=endpoint.locality.zone,
        sub_zone=endpoint.locality.sub_zone,
        priority=endpoint.priority,
    )


def code(type_url: str) -> str:
    """What people call a type: `CDS` and its kin; the URL for what has no such name."""
    return CODES.get(type_url, type_url)


def proxy_view(state: ProxyState, *, withheld: Mapping[str, str]) -> ProxyView:
    """A connected proxy. `withheld` says, by type URL, in whose words something is kept from its audience."""
    return ProxyView(
        node=state.node_id,
        kind=state.audience.kind,
        namespace=state.audience.namespace,
        name=state.node_id.split("~")[2],
        connected_since=datetime.fromtimestamp(state.connected_since, UTC).isoformat(timespec="seconds"),
        types={
            code(one.type_url): _type_view(one, withheld.get(one.type_url, ""))
            for one in sorted(state.types, key=_order)
        },
        protocol="delta" if state.protocol == "delta" else "sotw",
        version=state.version,
        lacks=state.lacks,
    )


def _type_view(state: TypeState, withheld: str) -> TypeView:
    return TypeView(
        status="ERROR" if withheld else state.status,
        sent=state.resources,
        acked=state.resources if state.acked == state.sent else 0,
        version=state.acked,
        rejected=state.detail or withheld,
        left_out=state.left_out,
    )


def _order(state: TypeState) -> tuple[int, str]:
    known = list(CODES)
    return (known.index(state.type_url) if state.type_url in CODES else len(known), state.type_url)


def explanation_wire(answer: Explanation) -> dict[str, Any]:
    """An explanation for the wire: camelCase, and nothing that does not apply."""
    wire: dict[str, Any] = {
        "gateway": f"{answer.gateway.namespace}/{answer.gateway.name}" if answer.gateway is not None else "",
        "listener": answer.listener,
        "port": answer.port,
        "virtualHost": answer.virtual_host,
        "route": str(answer.route) if answer.route is not None else "",
        "match": answer.match,
        "filters": list(answer.filters),
        "outcome": answer.outcome,
        "status": answer.status,
        "location": answer.location,
        "why": answer.why,
        "backends": [_share(share) for share in answer.backends],
        "others": [{"what": passed.what, "why": passed.why} for passed in answer.others],
    }
    kept = {name: value for name, value in wire.items() if value}
    if answer.route is not None:
        kept |= {"rule": answer.rule, "ruleName": answer.rule_name, "matchIndex": answer.match_index}
    return kept


def _share(share: Share) -> Mapping[str, Any]:
    wire = {"ref": share.ref, "weight": share.weight, "share": share.share, "endpoints": share.endpoints}
    if share.successors:
        wire["successors"] = list(share.successors)
    return wire | {"problem": share.problem} if share.problem else wire


def effective_wire(told: Told) -> dict[str, Any]:
    """What holds for a target of policies, and for each field the object that says so."""
    target = {"kind": told.kind, "namespace": told.namespace, "name": told.name}
    if told.section:
        target["section"] = told.section
    if told.where:
        target["where"] = told.where
    return {
        "policy": told.policy,
        "target": target,
        "settings": to_json(told.effective.settings),
        "origins": {origin.path: str(origin.policy) for origin in told.effective.origins},
    }


def authorization_wire(key: ServiceKey, row: Authorizations, caller: Caller | None) -> dict[str, Any]:
    """Who may call a service, the rule that holds first first; with a caller only the one that decides on it."""
    deciding_one = deciding(row, caller) if caller is not None else None
    rules = row.rules if caller is None else (deciding_one,) if deciding_one is not None else ()
    wire: dict[str, Any] = {
        "namespace": key.namespace,
        "service": key.name,
        "rules": [_rule_wire(one) for one in rules],
    }
    return wire | ({"unreadable": row.unreadable} if row.unreadable else {})


def _rule_wire(rule: AuthorizationRule) -> dict[str, Any]:
    caller = {name: value for name, value in msgspec.structs.asdict(rule.caller).items() if value}
    if "sameness_group" in caller:
        caller["samenessGroup"] = caller.pop("sameness_group")
    wire: dict[str, Any] = {"caller": caller, "precedence": rule.precedence}
    if rule.action:
        wire["action"] = rule.action
    if rule.permissions:
        wire["permissions"] = [_permission_wire(each) for each in rule.permissions]
    if rule.tokens:
        wire["tokens"] = _tokens_wire(rule.tokens)
    return wire | ({"description": rule.description} if rule.description else {})


def _permission_wire(permission: Permission) -> dict[str, Any]:
    wire: dict[str, Any] = {"action": permission.action}
    if permission.path_match:
        wire["path"] = {permission.path_match: permission.path}
    if permission.methods:
        wire["methods"] = list(permission.methods)
    if permission.headers:
        wire["headers"] = [
            {"name": each.name, each.match: True if each.match == "present" else each.value}
            | ({"invert": True} if each.invert else {})
            | ({"ignoreCase": True} if each.ignore_case else {})
            for each in permission.headers
        ]
    return wire | ({"tokens": _tokens_wire(permission.tokens)} if permission.tokens else {})


def _tokens_wire(tokens: tuple[TokenRule, ...]) -> list[dict[str, Any]]:
    return [
        {"provider": each.provider, "claims": [{"path": list(path), "value": value} for path, value in each.claims]}
        for each in tokens
    ]


def load_reports(loads: Loads) -> list[Mapping[str, Any]]:
    """What proxies last reported of load, one row for each and cluster."""
    return [
        {
            "node": node,
            "cluster": load.cluster,
            "succeeded": load.succeeded,
            "failed": load.failed,
            "inProgress": load.in_progress,
            "dropped": load.dropped,
            "issued": load.issued,
            "intervalSeconds": load.interval_seconds,
        }
        for node in loads.nodes()
        for load in loads.of(node)
    ]
