"""Where a request to a Gateway would go, and why: the oracle behind `fairlead explain`.

Reads the model alone, by the words of Gateway API, and knows nothing of Envoy's configuration: a property test holds
its answers against a real Envoy's. A request belongs to the most specific listener of its port that covers its host
(for HTTPS its server name, by which TLS listeners of the port take their connections too), there to the most specific
hostname under which routes answer, and there to the first match by `mesh.precedence`; routes that name it themselves
come before those that name a wider one. Nothing falls through: where the chosen hostname has no match, the answer is
404.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec

from mesh import external_auth, unsupported
from mesh.attachments import ATTACHMENTS, ROUTES_BY_LISTENER, ListenerKey
from mesh.backends import Backend, Invalid, resolve
from mesh.credentials import chosen as credential_for
from mesh.failovers import keeps_sessions, successors
from mesh.gateways import GATEWAYS, Gateway, GatewayKey
from mesh.hostnames import ANY, best, covers
from mesh.kinds.http_filters import HTTPRouteFilter
from mesh.kinds.httproute import HTTPBackendRef, HTTPRouteRule
from mesh.kinds.stream_routes import BackendRef
from mesh.listeners import GatewayListener
from mesh.matching import match_words, mismatch
from mesh.model import ObjectKey
from mesh.outside import find_outside
from mesh.policies import TRAFFIC, BackendKey, Effective
from mesh.precedence import RouteOrder
from mesh.redirects import location
from mesh.request_routes import RequestRoute, find_request_route
from mesh.requests import WELL_KNOWN_PORTS, Request, request
from mesh.route_places import place_of, policies_at
from mesh.routes import find_stream_route
from mesh.services import ENDPOINTS, SUBSETS, SubsetKey
from mesh.stream_winners import winners
from mesh.tables import Engine, Present, Reader

Outcome = Literal["forward", "redirect", "respond", "close"]

OTHERS = 50


class Passed(msgspec.Struct, frozen=True):
    """Something that could have answered and did not, and why: `what` names it as a user would."""

    what: str
    why: str


class Share(msgspec.Struct, frozen=True):
    """A backend of the rule, its part of the requests (0 to 1) and how many endpoints it has.

    `problem` says why requests that fall to it answer 500, or 503 where there is no endpoint. `successors` take over
    where its endpoints cannot answer (`mesh.failovers`).
    """

    ref: str
    weight: int
    share: float
    backend: Backend | None = None
    endpoints: int = 0
    problem: str = ""
    successors: tuple[str, ...] = ()


class Explanation(msgspec.Struct, frozen=True):
    """What happens to a request.

    `outcome` is `forward` (to one of `backends`), `redirect` (to `location`), `respond` (Envoy itself answers with
    `status`) or `close` (no listener takes the connection). `status` is 0 where the backend decides. `match` is in
    words, `others` tells why not the rest: at most `OTHERS` of them, the nearest first.
    """

    outcome: Outcome
    why: str
    status: int = 0
    gateway: GatewayKey | None = None
    listener: str = ""
    port: int = 0
    virtual_host: str = ""
    route: ObjectKey | None = None
    rule: int = 0
    rule_name: str = ""
    match_index: int = 0
    match: str = ""
    filters: tuple[str, ...] = ()
    location: str = ""
    backends: tuple[Share, ...] = ()
    others: tuple[Passed, ...] = ()


class Candidate(NamedTuple):
    """One match of one rule of a route, sorted as Gateway API orders them."""

    order: RouteOrder
    key: ObjectKey
    rule: int
    match: int


class _Choice(NamedTuple):
    """The listener that takes a request, or None, what Envoy answers then (0: it closes), and why not the others."""

    listener: GatewayListener | None
    why: str
    status: int
    others: tuple[Passed, ...]


class GatewayNotFoundError(LookupError):
    """There is no such Gateway, or it is not ours."""


def explain(
    engine: Engine, gateway: GatewayKey, *, method: str, url: str, headers: Iterable[tuple[str, str]] = ()
) -> Explanation:
    """Explain a request to a Gateway.

    Raises GatewayNotFoundError, and ValueError where the URL is not one.
    """
    look = Present(engine)
    row = look(GATEWAYS, gateway)
    if row is None:
        raise GatewayNotFoundError(f"Gateway {gateway.namespace}/{gateway.name} does not exist or is not ours to serve")
    asked = request(method, url, headers)
    choice = _choose(row, asked)
    by_name = choice.listener is not None and not choice.listener.http
    if asked.escaped_slashes and not by_name and (choice.listener is not None or choice.status):
        why = "the path has escaped slashes; Envoy sends the client to the plain path before it looks for a route"
        to = f"{asked.path}?{asked.raw_query}" if asked.raw_query else asked.path
        answer = Explanation("redirect", why, status=307, location=to)
    elif choice.listener is None:
        answer = Explanation("respond" if choice.status else "close", choice.why, status=choice.status)
    else:
        at = ListenerKey(gateway, choice.listener.name)
        answer = (
            _in_listener(look, at, choice.listener, asked)
            if choice.listener.http
            else _in_stream(look, at, row, choice.listener, asked)
        )
        answer = msgspec.structs.replace(answer, listener=choice.listener.name, port=choice.listener.port)
    return msgspec.structs.replace(answer, gateway=gateway, others=(*answer.others, *choice.others)[:OTHERS])


def candidates(look: Reader, keys: Iterable[ObjectKey]) -> list[Candidate]:
    """All matches of some routes in the order in which they are tried."""
    found: list[Candidate] = []
    for key in keys:
        route = find_request_route(look, key)
        for number, orders in enumerate(route.orders if route is not None else ()):
            found += [Candidate(order, key, number, index) for index, order in enumerate(orders)]
    return sorted(found)


def _choose(gateway: Gateway, asked: Request) -> _Choice:
    protocol = asked.scheme.upper()
    port = asked.port or _assumed_port(gateway, asked)
    speaking = ("HTTPS", "TLS") if protocol == "HTTPS" else (protocol,)
    here = [item for item in gateway.listeners if item.programmed and item.port == port and item.protocol in speaking]
    elsewhere = [
        Passed(
            f"listener {item.name}", f"serves {item.protocol} on port {item.port}" if item.programmed else _ill(item)
        )
        for item in gateway.listeners
        if item not in here
    ]
    if not here:
        return _Choice(None, f"no listener serves {protocol} on port {port}", 0, tuple(elsewhere))
    name = asked.sni if protocol == "HTTPS" else asked.host
    chosen = best(tuple(item.hostname for item in here), name)
    others = (*(_passed_over(item, name) for item in here if item.hostname != chosen), *elsewhere)
    if chosen is None:
        return _Choice(None, f"no listener on port {port} covers {name}", 0 if protocol == "HTTPS" else 404, others)
    listener = next(item for item in here if item.hostname == chosen)
    if not listener.http:
        return _Choice(listener, "", 0, others)
    meant = best(tuple(item.hostname for item in here), asked.host)
    if meant not in (chosen, None):
        why = f"server name {asked.sni} belongs to listener {listener.name}, and host {asked.host} to another"
        return _Choice(None, why, 421, others)
    if meant is None:
        return _Choice(None, f"no listener on port {port} covers {asked.host}", 404, others)
    return _Choice(listener, "", 0, others)


def _assumed_port(gateway: Gateway, asked: Request) -> int:
    """The port that a URL without one means: the scheme's, else the only one on which the Gateway speaks it."""
    ports = {item.port for item in gateway.listeners if item.programmed and item.protocol == asked.scheme.upper()}
    usual = WELL_KNOWN_PORTS[asked.scheme]
    return ports.pop() if usual not in ports and len(ports) == 1 else usual


def _ill(listener: GatewayListener) -> str:
    said = next((item.message for item in listener.conditions if item.type == "Programmed" and not item.status), "")
    return f"is not served: {said}"


def _passed_over(listener: GatewayListener, name: str) -> Passed:
    why = "is less specific" if covers(listener.hostname, name) else f"does not cover {name}"
    return Passed(f"listener {listener.name}", f"hostname {listener.hostname or '(any)'} {why}")


def _in_listener(look: Reader, key: ListenerKey, listener: GatewayListener, asked: Request) -> Explanation:
    hosts: dict[str, dict[ObjectKey, int]] = {}
    for route in look.keys(ROUTES_BY_LISTENER, key):
        attachment = look(ATTACHMENTS, route)
        for at in attachment.listeners() if attachment is not None else ():
            if (at.gateway, at.listener) == key:
                for hostname in at.hostnames:
                    hosts.setdefault(hostname, {})[route] = at.rank(hostname)
    chosen = best(tuple(hosts), asked.host)
    others = tuple(
        Passed(str(route), f"answers for {hostname or '(any host)'}, not for {chosen or asked.host}")
        for hostname in sorted(hosts)
        if hostname != chosen
        for route in sorted(hosts[hostname].keys() - hosts.get(chosen or ANY, {}).keys())
    )
    if chosen is None:
        why = f"no route on listener {listener.name} answers for {asked.host}"
        return Explanation("respond", why, status=404, others=others[:OTHERS])
    tried: list[Passed] = []
    for candidate in sorted(candidates(look, hosts[chosen]), key=lambda one: hosts[chosen][one.key]):
        found = _route(look, candidate)
        match = found.rules[candidate.rule].matches[candidate.match]
        why = mismatch(match, asked)
        if not why:
            place = place_of(look, key.gateway, listener)
            policies = policies_at(look, place, candidate.key, found.rules[candidate.rule].name)
            answer = _by_rule(look, candidate, found, listener, asked, policies)
            rest = tuple(tried)
            return msgspec.structs.replace(answer, virtual_host=chosen or "*", others=(*rest, *others)[:OTHERS])
        declared = found.declared(candidate.rule)
        cohort = " (cohort of a Rollout)" if declared != candidate.rule else ""
        tried.append(Passed(f"{candidate.key} rules[{declared}].matches[{candidate.match}]{cohort}", why))
    why = f"no route for {chosen or 'any host'} matches the request"
    return Explanation("respond", why, status=404, virtual_host=chosen or "*", others=(*tried, *others)[:OTHERS])


def _in_stream(
    look: Reader, key: ListenerKey, gateway: Gateway, listener: GatewayListener, asked: Request
) -> Explanation:
    """What becomes of a TLS connection that no HTTPS listener takes: its server name alone decides."""
    routes = winners(look, key, gateway, listener)
    chosen = best((listener.hostname, *routes), asked.sni)
    key_of_route = routes.get(chosen) if chosen is not None else None
    route = find_stream_route(look, key_of_route) if key_of_route is not None else None
    if key_of_route is None or route is None:
        return Explanation("close", f"no TLSRoute on listener {listener.name} has server name {asked.sni}")
    shares = _shares(look, key_of_route, [(ref, ()) for ref in route.spec.rules[0].backend_refs])
    how = "passes as it came" if listener.passthrough else "ends here and its bytes pass on"
    why = f"TLS {how}: of the routes that name it most exactly the oldest has the connection"
    usable = any(share.share and share.backend is not None for share in shares)
    return Explanation(
        "forward" if usable else "close",
        why if usable else "no backend of the route is valid",
        route=key_of_route,
        rule_name=route.spec.rules[0].name or "",
        virtual_host=chosen or "*",
        backends=shares,
    )


def _route(look: Reader, candidate: Candidate) -> RequestRoute:
    route = find_request_route(look, candidate.key)
    assert route is not None, f"{candidate.key} was there when its matches were sorted"
    return route


def _by_rule(
    look: Reader,
    candidate: Candidate,
    route: RequestRoute,
    listener: GatewayListener,
    asked: Request,
    policies: Effective | None,
) -> Explanation:
    rule = route.rules[candidate.rule]
    match = rule.matches[candidate.match]
    redirect = next((item.request_redirect for item in rule.filters if item.request_redirect is not None), None)
    alone = {place for number, place in (*route.apart, *route.canaries) if number == candidate.rule}
    if credential_for(look, candidate.key, rule.name) is not None or keeps_sessions(rule, policies):
        alone = set(range(len(rule.backend_refs)))
    shares = _shares(look, candidate.key, [(ref, ref.filters) for ref in rule.backend_refs], alone)
    refused = unsupported.of_rule(rule.filters) or _unjudged(look, candidate.key, rule)
    outcome: Outcome
    if refused:
        outcome, status, why = "respond", route.unable, f"the rule has {refused}"
    elif redirect is not None:
        outcome, status, why = "redirect", redirect.status_code, "the rule redirects"
    elif not shares or not any(share.share for share in shares):
        outcome, status, why = "respond", route.unable, "the rule has no backend with a weight"
    elif all(share.backend is None for share in shares if share.share):
        outcome, status, why = "respond", route.unable, "no backend of the rule is valid"
    else:
        outcome, status, why = "forward", 0, "the first match of the most specific host"
    if route.declared(candidate.rule) != candidate.rule:
        why = f"{why}; the request is of a Rollout's cohort"
    return Explanation(
        outcome,
        why,
        status=status,
        route=candidate.key,
        rule=route.declared(candidate.rule),
        rule_name=rule.name or "",
        match_index=candidate.match,
        match=match_words(match),
        filters=tuple(item.type for item in rule.filters),
        location=location(redirect, match.path, port=listener.port, asked=asked)
        if redirect is not None and outcome == "redirect"
        else "",
        backends=shares,
    )


def _unjudged(look: Reader, route: ObjectKey, rule: HTTPRouteRule) -> str:
    """Why nobody can be asked whether a request may go on; empty where somebody can, or nobody has to be."""
    asked = external_auth.of_rule(rule.filters)
    judge = external_auth.authorizer(look, route, asked) if asked is not None else None
    return f"no authorizer: {judge.message}" if isinstance(judge, Invalid) else ""


def _shares(
    look: Reader,
    route: ObjectKey,
    refs: Sequence[tuple[BackendRef | HTTPBackendRef, tuple[HTTPRouteFilter, ...]]],
    alone: Collection[int] = (),
) -> tuple[Share, ...]:
    """The backends of a rule; nobody takes over from those in the places `alone`."""
    total = sum(ref.weight for ref, _ in refs)
    shares = []
    for place, (ref, filters) in enumerate(refs):
        name = f"{ref.kind} {ref.namespace or route.namespace}/{ref.name}" + (f":{ref.port}" if ref.port else "")
        share = ref.weight / total if total else 0.0
        backend = resolve(look, route=route, ref=ref)
        refused = backend.message if isinstance(backend, Invalid) else unsupported.of_backend(filters)
        if isinstance(backend, Invalid) or refused:
            shares.append(Share(name, ref.weight, share, problem=refused))
            continue
        count = endpoint_count(look, backend)
        after = successors(look, backend) if place not in alone else ()
        answering = any(endpoint_count(look, one) for one in (backend, *after))
        problem = "" if answering else "It has no endpoints: requests answer 503."
        said = tuple(map(_called, after))
        shares.append(
            Share(name, ref.weight, share, backend=backend, endpoints=count, problem=problem, successors=said)
        )
    return tuple(shares)


def _called(backend: Backend) -> str:
    """A backend as a reference names it."""
    if backend.outside:
        return f"Backend {backend.service.namespace}/{backend.service.name}"
    kind, name = ("ServiceSubset", backend.subset) if backend.subset else ("Service", backend.service.name)
    return f"{kind} {backend.service.namespace}/{name}:{backend.port}"


def endpoint_count(look: Reader, backend: Backend, *, own: bool = False) -> int:
    """How many endpoints a backend has, with those that take over where a subset has none; `own`: without them."""
    if backend.outside:
        outside = find_outside(look, backend.service)
        return len(outside.spec.endpoints) or 1 if outside is not None else 0
    row = look(ENDPOINTS, backend.service)
    if row is None:
        return 0
    endpoints = row.own if backend.own else row.endpoints
    subset = look(SUBSETS, SubsetKey(backend.service.namespace, backend.subset)) if backend.subset else None
    if subset is None:
        return len(endpoints)
    if own:
        subset = msgspec.structs.replace(subset, fallback=())
    return len(subset.arranged(endpoints, any_endpoint=not own and _any_endpoint(look, backend)))


def _any_endpoint(look: Reader, backend: Backend) -> bool:
    """Whether a policy has all endpoints take over where a subset has none."""
    row = look(TRAFFIC, BackendKey(backend.service, backend.subset))
    effective = row.of_port(backend.port) if row is not None else None
    balancer = effective.settings.load_balancer if effective is not None else None
    return balancer is not None and balancer.subset_fallback == "AnyEndpoint"
