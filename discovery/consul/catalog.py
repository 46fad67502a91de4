"""What the instances of one Consul service say of a service of the mesh. Pure. What each rule is for:

- An instance with a critical check is left out at once, one in maintenance mode too (that is a critical check). Where
  asked for it stays, as unhealthy, so that Envoy sees how much of a datacenter is left. With a warning it keeps the
  weight that Consul has for warnings; a weight of 0 leaves it out.
- A registration with a kind (`connect-proxy`, `mesh-gateway`, …) is a proxy
  and no service: Envoy would talk to a proxy.
- Instances may listen on any port, so the port that routes name is said once: 80, or what the meta key `fairlead-port`
  says (the lowest, where instances differ). `fairlead-protocol` says what it speaks; without it that is HTTP.
- A tag `key=value` is the label `key`, a plain tag is a label with the value `true`; meta wins over tags.
- The namespace is what the meta key `fairlead-namespace` or a tag `fairlead-namespace=…` says, else the one it has in
  Consul, where Consul has them, else the configured one.
- The address is the instance's, else the node's; of another datacenter that of the WAN, where one is told. A host name
  is left out, for Envoy takes addresses only, and an address that belongs to no one instance too: `odd` tells of them.
- A service whose whole name matches one of the expressions to leave out is not looked at. `consul` always is: that it
  is there tells that our token sees all.
- Instances at one address and port are one endpoint, with the labels of all (those of the id that sorts first win) and
  the highest weight.
- Region and zone are what the instance's own locality says, else its node's, else the node's meta keys `region` and
  `zone`; without any the region is the datacenter. The sub-zone is the node's network segment.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

import msgspec
import re2

from discovery.consul.wire import Entry, Place, Weights
from mesh.model import DiscoveredEndpoints, DiscoveredService, Endpoint, Locality, Protocol, ServicePort
from mesh.services import EVERYWHERE
from mesh.validations.metadata import is_dns_label
from mesh.validations.service import can_be_connected_to

PORT_KEY = "fairlead-port"
PROTOCOL_KEY = "fairlead-protocol"
NAMESPACE_KEY = "fairlead-namespace"
SEGMENT_KEY = "consul-network-segment"
"""Consul's own key of a node's meta; empty outside of Enterprise."""
CONSULS_OWN = "consul"
DEFAULT_PORT = 80
PROTOCOLS: dict[str, Protocol] = {"http": "HTTP", "http2": "HTTP2", "grpc": "GRPC", "tls": "TLS", "tcp": "TCP"}
_HIGHEST = 65535
_HEAVIEST = 65535  # of one endpoint; Envoy wants the sum of a locality within 32 bits
_NO_WEIGHTS = Weights()
_NOWHERE = Place()
_CONSULS_DEFAULT = "default"


class Rule(msgspec.Struct, frozen=True):
    """How a datacenter's services are taken. `remote`: it is another one than the agent's; `priority` as in Envoy.

    `exclude`: expressions of RE2, for the whole name of services to leave out.
    """

    namespace: str = "default"
    priority: int = 0
    remote: bool = False
    unhealthy: bool = False
    exclude: tuple[str, ...] = ()


_PLAIN = Rule()
Rows = tuple[DiscoveredService, DiscoveredEndpoints]
Address = tuple[str, int]


def is_left_out(name: str, rule: Rule) -> bool:
    """Whether a service is not wanted."""
    return name != CONSULS_OWN and any(re2.fullmatch(expression, name) for expression in rule.exclude)


def rows(entries: Iterable[Entry], rule: Rule = _PLAIN) -> Mapping[str, Rows]:
    """The service and its endpoints, by the namespaces it is in; empty where no instance is of a service proper."""
    spaces: dict[str, list[Entry]] = {}
    for entry in entries:
        if not entry.service.kind:
            spaces.setdefault(_namespace(entry, rule), []).append(entry)
    return {space: _rows(proper, rule) for space, proper in sorted(spaces.items())}


def places(entries: Iterable[Entry], rule: Rule = _PLAIN) -> frozenset[Address]:
    """The addresses and ports of all instances, also of those that may get no requests."""
    return frozenset(_address(entry, rule) for entry in entries)


def with_missing(known: Mapping[str, Rows], told: Mapping[str, Rows], there: frozenset[Address]) -> Mapping[str, Rows]:
    """What is told, and beside it those endpoints that were known and of which nothing is told."""
    found = dict(told)
    for space, (service, ends) in known.items():
        missing = [each for each in ends.endpoints if (each.address, each.ports[0][1]) not in there]
        if missing:
            now = found.get(space, (service, DiscoveredEndpoints(())))
            found[space] = now[0], DiscoveredEndpoints(tuple(sorted({*now[1].endpoints, *missing})))
    return dict(sorted(found.items()))


class Odd(msgspec.Struct, frozen=True):
    """What cannot be taken of a service's instances: addresses, and meta of ours. Each with the instance's id."""

    addresses: tuple[str, ...] = ()
    meta: tuple[str, ...] = ()


NOTHING_ODD = Odd()


def odd(entries: Iterable[Entry], rule: Rule = _PLAIN) -> Odd:
    """What is left out of `rows` because nobody could do anything with it."""
    proper = [entry for entry in entries if not entry.service.kind]
    at = {f"{entry.service.id} at {_address(entry, rule)[0]}" for entry in proper if not _is_reachable(entry, rule)}
    places = ((entry.service.id, *_address(entry, rule)) for entry in proper)
    at |= {f"{own} at {address}:{port}" for own, address, port in places if not 0 <= port <= _HIGHEST}
    return Odd(tuple(sorted(at)), tuple(sorted({said for entry in proper for said in _odd_meta(entry)})))


def _is_reachable(entry: Entry, rule: Rule) -> bool:
    return can_be_connected_to(_address(entry, rule)[0])


def _odd_meta(entry: Entry) -> Iterable[str]:
    meta = entry.service.meta or {}
    good = {
        PORT_KEY: _stated_port(entry) is not None,
        PROTOCOL_KEY: meta.get(PROTOCOL_KEY, "").lower() in PROTOCOLS,
        NAMESPACE_KEY: is_dns_label(meta.get(NAMESPACE_KEY, "")),
    }
    return (f"{key}={meta[key]} of {entry.service.id}" for key in good if meta.get(key) and not good[key])


def _rows(proper: list[Entry], rule: Rule) -> Rows:
    stated = [port for entry in proper if (port := _stated_port(entry)) is not None]
    spoken = {(entry.service.meta or {}).get(PROTOCOL_KEY, "").lower() for entry in proper}
    protocols = [PROTOCOLS[word] for word in sorted(spoken) if word in PROTOCOLS]
    named = ServicePort("", min(stated, default=DEFAULT_PORT), protocols[0] if protocols else "HTTP")
    return DiscoveredService(ports=(named,), export_to=(EVERYWHERE,)), DiscoveredEndpoints(_endpoints(proper, rule))


def _endpoints(proper: list[Entry], rule: Rule) -> tuple[Endpoint, ...]:
    found: dict[tuple[str, object], Endpoint] = {}
    for entry in sorted(proper, key=lambda entry: entry.service.id):
        made = endpoint(entry, rule)
        if made is not None:
            place = made.address, made.ports
            before = found.get(place)
            found[place] = made if before is None or before == made else _merged(before, made)
    return tuple(sorted(found.values()))


def _merged(first: Endpoint, other: Endpoint) -> Endpoint:
    """One that was registered twice: Envoy would take one of them, and which labels it has would be chance."""
    return msgspec.structs.replace(
        first,
        labels=tuple(sorted((dict(other.labels) | dict(first.labels)).items())),
        weight=max(first.weight, other.weight),
        health=first.health if first.health == "Healthy" else other.health,
    )


def endpoint(entry: Entry, rule: Rule = _PLAIN) -> Endpoint | None:
    """One instance; None where it may get no requests."""
    weight, healthy = _weight(entry), True
    if weight < 1 and rule.unhealthy and any(check.status == "critical" for check in entry.checks or ()):
        weight, healthy = max(1, (entry.service.weights or _NO_WEIGHTS).passing), False
    address, port = _address(entry, rule)
    if weight < 1 or not 0 < port <= _HIGHEST or not can_be_connected_to(address):
        return None
    return Endpoint(
        address=address,
        ports=(("", port),),
        labels=_labels(entry.service.tags or (), entry.service.meta or {}),
        weight=min(weight, _HEAVIEST),
        locality=_locality(entry),
        health="Healthy" if healthy else "Unhealthy",
        priority=rule.priority,
    )


def _locality(entry: Entry) -> Locality:
    own, node, meta = entry.service.locality or _NOWHERE, entry.node.locality or _NOWHERE, entry.node.meta or {}
    region = own.region or node.region or meta.get("region") or entry.node.datacenter
    zone = own.zone or node.zone or meta.get("zone") or ""
    return Locality(sys.intern(region), sys.intern(zone), sys.intern(meta.get(SEGMENT_KEY) or ""))


def _address(entry: Entry, rule: Rule) -> tuple[str, int]:
    service, node = entry.service, entry.node
    if rule.remote:
        wan = (service.tagged_addresses or {}).get("wan")
        if wan is not None and wan.address:
            return wan.address, wan.port or service.port
        if not service.address:
            return (node.tagged_addresses or {}).get("wan") or node.address, service.port
    return service.address or node.address, service.port


def _namespace(entry: Entry, rule: Rule) -> str:
    service = entry.service
    named = (service.meta or {}).get(NAMESPACE_KEY, "")
    begin = f"{NAMESPACE_KEY}="
    named = named or next((tag.removeprefix(begin) for tag in service.tags or () if tag.startswith(begin)), "")
    if not named and service.namespace != _CONSULS_DEFAULT:
        named = service.namespace or ""
    return sys.intern(named) if is_dns_label(named) else rule.namespace


def _weight(entry: Entry) -> int:
    states = {check.status for check in entry.checks or ()}
    weights = entry.service.weights or _NO_WEIGHTS
    if states <= {"passing"}:
        return weights.passing
    return weights.warning if states <= {"passing", "warning"} else 0


def _labels(tags: Iterable[str], meta: dict[str, str]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for tag in tags:
        key, equals, value = tag.partition("=")
        if key:
            found[sys.intern(key)] = value if equals else "true"
    return tuple(sorted((found | {sys.intern(key): value for key, value in meta.items()}).items()))


def _stated_port(entry: Entry) -> int | None:
    text = (entry.service.meta or {}).get(PORT_KEY, "")
    port = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(_HIGHEST)) else 0
    return port if 0 < port <= _HIGHEST else None
