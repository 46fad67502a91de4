"""What ClientPolicies say of a Gateway: of its listeners, and of its ports.

A listener of HTTPS has a filter chain of its own; those of HTTP on one port share one, since only the Host header tells
them apart. So what is said of one of them holds for all of the port, and of two policies the older one counts. The same
goes for what Envoy knows of ports only (`PORT_FIELDS`), whatever the protocol.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import msgspec

from mesh.certificates import has_block
from mesh.config_maps import config_map_entry
from mesh.gateways import GATEWAYS, Gateway, GatewayKey
from mesh.kinds.clientpolicy import (
    DEFAULT_MAX_VERSION,
    ClientPolicy,
    ClientSettings,
    ClientValidationRules,
    RevocationList,
    XForwardedClientCert,
)
from mesh.kinds.listenerset import ListenerSet
from mesh.listener_sets import gateway_of
from mesh.listeners import GatewayListener
from mesh.model import ObjectKey
from mesh.objects import find
from mesh.policies import Effective, Level, Target, Told, layers, merge, namespace_levels
from mesh.tables import Look, Reader, derived, each
from mesh.unjudged import WHY, claims, is_unjudged, without_claims

Part = TypeVar("Part", str, int)

PORT_FIELDS = (
    "proxyProtocol",
    "tcpKeepalive",
    "connections.bufferLimit",
    "connections.socketBufferLimit",
    "tls.fingerprints",
    "tls.clientValidation.crl",
    "http3.maxConcurrentStreams",
    "http3.initialStreamWindowSize",
    "http3.initialConnectionWindowSize",
)
"""The paths of what the listeners of a port share."""

NOTHING = ClientSettings()
_KIND = ClientPolicy.__name__
_CRL = "tls.clientValidation.crl"


class ClientRules(msgspec.Struct, frozen=True):
    """What holds for a Gateway as a whole, and for those of its listeners and ports of which more is said.

    `http3` names the listeners that speak it; `quic` are the addresses and ports that are bound for them.
    """

    whole: Effective | None = None
    listeners: tuple[tuple[str, Effective], ...] = ()
    ports: tuple[tuple[int, Effective], ...] = ()
    http3: tuple[str, ...] = ()
    quic: tuple[tuple[str, int], ...] = ()

    def of_listener(self, name: str) -> ClientSettings:
        """What holds for a listener."""
        return _settings(dict(self.listeners).get(name, self.whole))

    def of_port(self, port: int) -> ClientSettings:
        """What holds for a port, of which only `PORT_FIELDS` mean anything."""
        return _settings(dict(self.ports).get(port, self.whole))


NO_RULES = ClientRules()
EVERY_ADDRESS = "::"


def _settings(effective: Effective | None) -> ClientSettings:
    settings: ClientSettings = effective.settings if effective is not None else NOTHING
    return settings


def sharing(gateway: Gateway, listener: GatewayListener) -> frozenset[str]:
    """The names of the listeners that share the chain of this one, itself included."""
    if listener.protocol != "HTTP":
        return frozenset({listener.name})
    return on_port(gateway, listener)


def on_port(gateway: Gateway, listener: GatewayListener) -> frozenset[str]:
    """The names of the listeners of its port, itself included."""
    return frozenset(other.name for other in gateway.listeners if other.place == listener.place)


class Parts(NamedTuple):
    """The levels below a Gateway for each of its listeners (by its name) and for each place, the widest first.

    Those that share a chain have the very same list: what is merged of it is merged once.
    """

    listeners: dict[str, list[Level]]
    places: dict[tuple[int, bool], list[Level]]


def parts_of(policy: str, key: GatewayKey, gateway: Gateway) -> Parts:
    """What policies of a kind can say of the parts of a Gateway."""
    sharing_places: dict[tuple[int, bool], list[GatewayListener]] = {}
    for listener in gateway.listeners:
        sharing_places.setdefault(listener.place, []).append(listener)
    places = {place: _part_levels(policy, key, shared) for place, shared in sharing_places.items()}
    listeners = {
        each.name: places[each.place] if each.protocol == "HTTP" else _part_levels(policy, key, [each])
        for each in gateway.listeners
    }
    return Parts(listeners, places)


def merged_parts(
    look: Reader, around: list[Level], parts: Iterable[list[Level]], settings: type[Any]
) -> Iterator[Effective | None]:
    """What holds for each part, within what is said around it."""
    merged: dict[int, Effective | None] = {}
    for below in parts:
        if id(below) not in merged:
            merged[id(below)] = merge(layers(look, [*around, *below]), settings)
        yield merged[id(below)]


def _part_levels(policy: str, key: GatewayKey, shared: list[GatewayListener]) -> list[Level]:
    """The levels below a Gateway of listeners that share a chain or a port.

    What a ListenerSet's owner says counts where all of them are the set's: not for listeners of others.
    """
    levels = [Level(Target(policy, "Gateway", *key), frozenset(listener.name for listener in shared))]
    owners = {listener.owner for listener in shared}
    owner = owners.pop() if len(owners) == 1 else None
    if owner is not None:
        target = Target(policy, "ListenerSet", owner.namespace, owner.name)
        levels += [Level(target), Level(target, frozenset(listener.section for listener in shared))]
    return levels


def shared_with_others(look: Reader, listener_set: ObjectKey, section: str | None) -> Iterator[str]:
    """The listeners of a set of which policies for the set say nothing, each in a sentence."""
    found = find(look, ListenerSet, listener_set)
    parent = gateway_of(found) if found is not None else None
    gateway = look(GATEWAYS, GatewayKey(parent.namespace, parent.name)) if parent is not None else None
    for listener in gateway.of_set(listener_set) if gateway is not None else ():
        others = (one for one in gateway.listeners if one.name in sharing(gateway, listener)) if gateway else ()
        if section in (None, listener.section) and any(one.owner != listener_set for one in others):
            yield f"It has no effect on listener {listener.section}, which shares port {listener.port} with others."


@derived("client_rules", each(GATEWAYS))
def CLIENT_RULES(key: GatewayKey, look: Look) -> ClientRules | None:  # noqa: N802
    """The Gateways of which some ClientPolicy says something."""
    gateway = look(GATEWAYS, key)
    if gateway is None:
        return None
    around = gateway_levels(look, key)
    whole = merge(layers(look, around), ClientSettings)
    served = [listener for listener in gateway.listeners if listener.programmed and listener.protocol != "UDP"]
    parts = parts_of(_KIND, key, gateway)
    listeners = _differing(look, around, whole, {each.name: parts.listeners[each.name] for each in served})
    ports = _differing(look, around, whole, {each.port: parts.places[each.place] for each in served})
    if whole is None and not listeners:
        return None
    rules = ClientRules(whole, listeners, ports)
    http3 = tuple(each.name for each in served if not why_no_http3(gateway, each, rules))
    places = {(address, each.port) for each in served if each.name in http3 for address in _addresses(gateway)}
    return msgspec.structs.replace(rules, http3=http3, quic=tuple(sorted(places)))


def gateway_levels(look: Reader, key: GatewayKey) -> list[Level]:
    """The levels of a Gateway, the widest first."""
    policy = ClientPolicy.__name__
    return [*namespace_levels(look, policy, key.namespace), Level(Target(policy, "Gateway", *key))]


def _differing(
    look: Look, around: list[Level], whole: Effective | None, parts: dict[Part, list[Level]]
) -> tuple[tuple[Part, Effective], ...]:
    """What holds for parts of which policies say more than of the whole."""
    merged = zip(parts, merged_parts(look, around, parts.values(), ClientSettings), strict=True)
    differing = [(part, effective) for part, effective in merged if effective is not None and effective != whole]
    return tuple(sorted(differing, key=lambda item: item[0]))


def _addresses(gateway: Gateway) -> tuple[str, ...]:
    return gateway.addresses or (EVERY_ADDRESS,)


def why_no_http3(gateway: Gateway, listener: GatewayListener, rules: ClientRules) -> str:
    """Why a listener does not speak HTTP/3, as the end of a sentence; empty where it does."""
    settings = rules.of_listener(listener.name)
    if settings.http3 is None or not settings.http3.enabled:
        return "no policy asks for it"
    if listener.protocol != "HTTPS":
        return f"it speaks {listener.protocol}, and HTTP/3 is for HTTPS"
    if listener.clients is not None:
        return "it asks clients for certificates, which Envoy cannot do over QUIC"
    if settings.tls is not None and (settings.tls.max_version or DEFAULT_MAX_VERSION) < "1.3":
        return f"its TLS ends at {settings.tls.max_version}, and QUIC begins with 1.3"
    if any(other.programmed and other.place == (listener.port, True) for other in gateway.listeners):
        return f"another listener has port {listener.port} of UDP"
    return ""


class Revocations(msgspec.Struct, frozen=True):
    """Certificates that were taken back, in PEM; `problem` says why they are not known."""

    pem: bytes = b""
    only_leaf: bool = False
    problem: str = ""


def revocations(look: Reader, rules: ClientRules, port: int) -> Revocations | None:
    """What policies say of certificates taken back, for a port; None where they say nothing."""
    effective = dict(rules.ports).get(port, rules.whole)
    wanted = _validation(_settings(effective))
    if effective is None or wanted is None or wanted.crl is None:
        return None
    return held_revocations(look, effective.said_by(_CRL).namespace, wanted.crl)


def held_revocations(look: Reader, namespace: str, wanted: RevocationList) -> Revocations:
    """What is in the list that a policy of a namespace names."""
    held = config_map_entry(look, namespace, wanted.config_map)
    if isinstance(held, str):
        return Revocations(problem=held)
    if not has_block(held, b"X509 CRL"):
        at = f"{wanted.config_map.key} of ConfigMap {namespace}/{wanted.config_map.name}"
        return Revocations(problem=f"{at} has no list of certificates taken back (PEM of an X509 CRL)")
    return Revocations(held, wanted.only_verify_leaf_certificate)


def _validation(settings: ClientSettings) -> ClientValidationRules | None:
    return settings.tls.client_validation if settings.tls is not None else None


def forwards(settings: ClientSettings) -> XForwardedClientCert | None:
    """What backends are told of certificates that clients have shown themselves."""
    wanted = settings.headers.x_forwarded_client_cert if settings.headers is not None else None
    return wanted if wanted is not None and wanted.mode not in ("Sanitize", "AlwaysForwardOnly") else None


def listener_settings(settings: ClientSettings, listener: GatewayListener) -> ClientSettings:
    """The settings of a listener, by which no backend is told of a certificate that nobody has judged."""
    headers = settings.headers
    if not is_unjudged(listener) or headers is None:
        return settings
    if forwards(settings) is not None:
        headers = msgspec.structs.replace(headers, x_forwarded_client_cert=None)
    if headers.early_request_headers is not None:
        early = without_claims(headers.early_request_headers)
        headers = msgspec.structs.replace(headers, early_request_headers=early)
    return msgspec.structs.replace(settings, headers=headers)


def _early_claims(settings: ClientSettings) -> tuple[str, ...]:
    """The headers by which backends are told of clients' certificates before anything else."""
    return claims(settings.headers.early_request_headers) if settings.headers is not None else ()


def certificates_without_effect(
    look: Reader, key: GatewayKey, section: str | None, own: Collection[str]
) -> Iterator[str]:
    """The HTTPS listeners at which a policy speaks of clients' certificates in vain, each in a sentence.

    `own` are the fields that the policy sets itself.
    """
    gateway, rules = look(GATEWAYS, key), look(CLIENT_RULES, key) or NO_RULES
    for listener in gateway.listeners if gateway is not None else ():
        if section not in (None, listener.name) or listener.protocol != "HTTPS" or not listener.programmed:
            continue
        settings = rules.of_listener(listener.name)
        early = ", ".join(_early_claims(settings)) if is_unjudged(listener) else ""
        asked = {
            "tls.clientValidation": _validation(settings) is not None,
            "headers.xForwardedClientCert": forwards(settings) is not None,
            "headers.earlyRequestHeaders": bool(early),
        }
        if listener.clients is None:
            why = "nothing in its spec.tls.frontend asks clients for certificates"
        elif is_unjudged(listener):
            why = WHY
        else:
            continue
        for path in (path for path, wanted in asked.items() if wanted and any(one.startswith(path) for one in own)):
            what = f"{path} takes {early} off instead" if path.startswith("headers.early") else f"{path} has no effect"
            yield f"{what} on listener {listener.name} of Gateway {key.namespace}/{key.name}: {why}."


def http3_without_effect(look: Reader, key: GatewayKey, section: str | None) -> Iterator[str]:
    """The listeners for which a policy asks for HTTP/3 in vain, each in a sentence."""
    gateway, rules = look(GATEWAYS, key), look(CLIENT_RULES, key) or NO_RULES
    for listener in gateway.listeners if gateway is not None else ():
        asked = rules.of_listener(listener.name).http3
        if section in (None, listener.name) and listener.programmed and asked is not None and asked.enabled:
            why = why_no_http3(gateway, listener, rules) if gateway is not None else ""
            if why and (section is not None or listener.protocol == "HTTPS"):
                yield f"HTTP/3 has no effect on listener {listener.name} of Gateway {key.namespace}/{key.name}: {why}."


def effective_client_policies(rows: Iterable[tuple[GatewayKey, ClientRules]]) -> Iterator[Told]:
    """What holds for each Gateway that a policy reaches, and for its listeners that differ, sorted."""
    for key, rules in sorted(rows, key=lambda item: item[0]):
        parts = [("", rules.whole)] if rules.whole is not None else []
        for section, effective in [*parts, *rules.listeners]:
            yield Told(ClientPolicy.__name__, "Gateway", key.namespace, key.name, section, effective)
