"""RoutePolicies for Gateways, ListenerSets and listeners: all routes behind them inherit these.

Narrower than the mesh and wider than the route's namespace: what a Gateway's owner says holds unless the namespace, the
route or the rule says otherwise, and its `overrides` hold whatever they say. A route may then mean something else at
each listener, so it is built for each of them of which something is said, and once for all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mesh.attachments import AttachedListener, Attachment, ListenerKey
from mesh.gateways import GATEWAYS, GatewayKey
from mesh.kinds.routepolicy import RoutePolicy, RouteSettings
from mesh.listeners import GatewayListener
from mesh.model import ObjectKey
from mesh.policies import Effective, Level, Target, Told, layers, merge, namespace_levels, reached
from mesh.request_routes import find_request_route
from mesh.tables import Reader

_KIND = RoutePolicy.__name__

NOWHERE = ListenerKey(GatewayKey("", ""), "")
"""In the place of a place: the route inherits nothing from its Gateway."""


def _gateway(key: GatewayKey) -> Level:
    return Level(Target(_KIND, "Gateway", *key))


def _parts(gateway: GatewayKey, listener: GatewayListener) -> list[Level]:
    """The levels of a listener below its Gateway, the widest first."""
    if listener.owner is None:
        return [Level(_gateway(gateway).target, frozenset({listener.section}))]
    target = Target(_KIND, "ListenerSet", listener.owner.namespace, listener.owner.name)
    return [Level(target), Level(target, frozenset({listener.section}))]


def place_of(look: Reader, gateway: GatewayKey, listener: GatewayListener) -> ListenerKey:
    """Where routes behind a listener inherit from: the listener, the Gateway (under no name), or `NOWHERE`."""
    if any(reached(look, level) for level in _parts(gateway, listener)):
        return ListenerKey(gateway, listener.name)
    return ListenerKey(gateway, "") if reached(look, _gateway(gateway)) else NOWHERE


def _inherited(look: Reader, place: ListenerKey) -> list[Level]:
    """The levels of a place, the widest first; without that of the mesh."""
    gateway = look(GATEWAYS, place.gateway)
    listener = gateway.listener(place.listener) if gateway is not None and place.listener else None
    return [_gateway(place.gateway), *(_parts(place.gateway, listener) if listener is not None else ())]


def policies_at(look: Reader, place: ListenerKey, route: ObjectKey, rule: str | None) -> Effective | None:
    """What holds for a rule of a route (None: those without a name) behind a place."""
    target = Target(_KIND, route.kind, route.namespace, route.name)
    around = namespace_levels(look, _KIND, route.namespace)
    levels = [around[0], *_inherited(look, place), *around[1:], Level(target)]
    if rule is not None:
        levels.append(Level(target, frozenset({rule})))
    return merge(layers(look, levels), RouteSettings)


def effective_at_places(look: Reader, attachments: Iterable[tuple[ObjectKey, Attachment]]) -> Iterator[Told]:
    """What holds for each route and named rule that inherits something, at each such place; sorted."""
    for key, attachment in sorted(attachments, key=lambda item: item[0]):
        route = find_request_route(look, key)
        if route is None:
            continue
        names = [None, *sorted({rule.name for rule in route.rules if rule.name is not None})]
        for place in sorted({place for at in attachment.listeners() if (place := _place(look, at)) != NOWHERE}):
            whole = policies_at(look, place, key, None)
            where = f"at Gateway {place.gateway.namespace}/{place.gateway.name}"
            where += f":{place.listener}" if place.listener else ""
            for name in names:
                effective = policies_at(look, place, key, name)
                if effective is not None and (name is None or effective != whole):
                    yield Told(_KIND, key.kind, key.namespace, key.name, name or "", effective, where)


def _place(look: Reader, at: AttachedListener) -> ListenerKey:
    gateway = look(GATEWAYS, at.gateway)
    listener = gateway.listener(at.listener) if gateway is not None else None
    return place_of(look, at.gateway, listener) if listener is not None else NOWHERE
