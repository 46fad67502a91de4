"""The tables of listeners: those of gateways, of sidecars on their way out and in, and of gRPC clients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mesh.attachments import ListenerKey
from mesh.audiences import SIGHTS, Sight
from mesh.client_policies import CLIENT_RULES, NO_RULES, ClientRules, listener_settings
from mesh.envoy_patches import Patched
from mesh.gateways import GATEWAYS, Gateway, GatewayKey
from mesh.hostnames import ANY
from mesh.kinds.clientpolicy import ClientSettings
from mesh.listeners import GatewayListener
from mesh.model import Audience, mesh_settings
from mesh.peer_authentication import PeerModes, peer_modes
from mesh.tables import Look, derived, each
from mesh.telemetry_policies import NO_TELEMETRY, TELEMETRY_RULES, TelemetryRules
from xds.resources import Resource, ResourceKey
from xds.schema.type_urls import TYPE_LISTENER
from xds.translate import names
from xds.translate.envoy_patch import patch_message
from xds.translate.framing import encode_checked, resource
from xds.translate.gateway_tables import SOTW_GATEWAYS, chain_key
from xds.translate.grpc_client import api_listener
from xds.translate.ingress import ingress_cluster, ingress_listener
from xds.translate.listener import EVERY_ADDRESS, Chain, gateway_listener, quic_listener, udp_listener
from xds.translate.route_tables import (
    SERVICE_HOSTS,
    SeenPortKey,
)
from xds.translate.sidecar import LOOPBACK, egress_listener
from xds.translate.stream_tables import STREAMS, Stream
from xds.translate.tls import ClientTrust
from xds.translate.upstream_tables import UPSTREAMS, upstream_key, upstream_listener, wanted_at
from xds.translate.virtual_host import BuiltVirtualHost

EGRESS_SCOPE = "egress"


def _bound(key: GatewayKey, row: Gateway) -> Iterable[ResourceKey]:
    return _listeners(row, names.gateway_listeners_scope(*key, sotw=False))


def _bound_for_sotw(key: GatewayKey, row: Gateway) -> Iterable[ResourceKey]:
    return _listeners(row, names.gateway_listeners_scope(*key, sotw=True))


def _listeners(row: Gateway, scope: str) -> Iterable[ResourceKey]:
    places = {listener.place for listener in row.listeners if listener.programmed}
    return (
        ResourceKey(TYPE_LISTENER, names.listener_name(address, port, udp=udp), scope)
        for port, udp in places
        for address in row.addresses or (EVERY_ADDRESS,)
    )


def _quic(key: GatewayKey, row: ClientRules) -> Iterable[ResourceKey]:
    scopes = [names.gateway_listeners_scope(*key, sotw=sotw) for sotw in (False, True)]
    bound = [names.listener_name(address, port, udp=True) for address, port in row.quic]
    return (ResourceKey(TYPE_LISTENER, name, scope) for name in bound for scope in scopes)


@derived("gateway_listeners", each(GATEWAYS, _bound), each(SOTW_GATEWAYS, _bound_for_sotw), each(CLIENT_RULES, _quic))
def GATEWAY_LISTENERS(key: ResourceKey, look: Look) -> Resource | None:  # noqa: N802
    """What each Gateway binds, with the filter chains of its listeners; over SotW these get their routes by RDS.

    HTTP/3 has a listener of its own beside that for TCP.
    """
    namespace, name, sotw = names.gateway_of(key.scope)
    gateway_key = GatewayKey(namespace, name)
    gateway = look(GATEWAYS, gateway_key)
    if gateway is None or (sotw and look(SOTW_GATEWAYS, gateway_key) is None):
        return None
    address, port, udp = names.listener_place(key.name)
    rules = look(CLIENT_RULES, gateway_key) or NO_RULES
    telemetry = look(TELEMETRY_RULES, gateway_key) or NO_TELEMETRY
    asked = {names.cluster_name(backend) for backend in telemetry.backends}
    if udp and (address, port) in rules.quic:
        quic = _quic_chains(gateway_key, gateway, rules, port, telemetry)
        shared = rules.of_port(port)
        made = quic_listener(address, port, quic, scoped=not sotw, gateway=gateway_key, shared=shared)
        sections = frozenset(one.name for one in gateway.listeners if one.port == port and one.name in rules.http3)
        return _patched(look, key, made, asked, Patched("Gateway", namespace, name, "HTTP3Listener"), sections)
    chains: dict[str, Chain] = {}
    needs: set[str] = set(asked)
    for listener in gateway.listeners:
        if not listener.programmed or listener.place != (port, udp):
            continue
        if listener.http:
            chain = _http_chain(gateway_key, listener, rules, telemetry)
            chains[chain.name] = chain
            continue
        stream = look(STREAMS, ListenerKey(gateway_key, listener.name)) or Stream(())
        needs.update(stream.clusters)
        if udp:
            made = udp_listener(address, port, stream.hosts)
            target = Patched("Gateway", namespace, name, "UDPListener")
            return _patched(look, key, made, needs, target, frozenset({listener.name}))
        settings = rules.of_listener(listener.name)
        chains |= {chain.name: chain for chain in _stream_chains(listener, stream, settings)}
    ordered = [chains[name] for name in sorted(chains)]
    made = gateway_listener(address, port, ordered, scoped=not sotw, gateway=gateway_key, shared=rules.of_port(port))
    sections = frozenset(one.name for one in gateway.listeners if one.programmed and one.place == (port, udp))
    return _patched(look, key, made, needs, Patched("Gateway", namespace, name), sections)


def _patched(
    look: Look, key: ResourceKey, listener: Any, needs: set[str], target: Patched, sections: frozenset[str]
) -> Resource:
    made, outcomes = patch_message(look, listener, target, sections)
    return resource(key.type_url, key.name, encode_checked(made), needs=needs, results=outcomes)


def _http_chain(key: GatewayKey, listener: GatewayListener, rules: ClientRules, telemetry: TelemetryRules) -> Chain:
    chain = chain_key(key, listener)
    return Chain(
        chain.name,
        listener.hostname if chain.listener else ANY,
        listener.certificates,
        clients=_trust(key, listener),
        settings=listener_settings(rules.of_listener(listener.name), listener),
        http3=listener.name in rules.http3,
        telemetry=telemetry.of_listener(listener.name),
    )


def _quic_chains(
    key: GatewayKey, gateway: Gateway, rules: ClientRules, port: int, telemetry: TelemetryRules
) -> list[Chain]:
    listeners = (each for each in gateway.listeners if each.port == port and each.name in rules.http3)
    return sorted((_http_chain(key, each, rules, telemetry) for each in listeners), key=lambda chain: chain.name)


def _trust(gateway: GatewayKey, listener: GatewayListener) -> ClientTrust | None:
    if listener.clients is None:
        return None
    name = names.client_authorities_name(*gateway, listener.port)
    return ClientTrust(name, required=not listener.clients.insecure)


def _stream_chains(listener: GatewayListener, stream: Stream, settings: ClientSettings) -> Iterable[Chain]:
    kind = listener.protocol.lower()
    for host in stream.hosts:
        name = f"{kind}-{listener.port}-{listener.name}" + (f"-{host.hostname}" if host.hostname else "")
        by_name = listener.protocol == "TLS"
        yield Chain(
            name, host.hostname, listener.certificates, stream=host.shares, by_server_name=by_name, settings=settings
        )


def _sidecar_listeners(key: Audience, _row: Sight) -> Iterable[ResourceKey]:
    if key.kind != "sidecar":
        return
    if key.egress_port:
        yield egress_key(key)
    if key.ingress_port and key.port:
        yield ingress_key(key)
    for upstream in key.upstreams:
        yield upstream_key(key, upstream)


def egress_key(audience: Audience) -> ResourceKey:
    """The listener for what a workload sends, which depends on nothing but its port."""
    return ResourceKey(TYPE_LISTENER, names.listener_name(LOOPBACK, audience.egress_port), EGRESS_SCOPE)


def ingress_key(audience: Audience) -> ResourceKey:
    """The listener in front of a workload."""
    name = names.listener_name(EVERY_ADDRESS, audience.ingress_port)
    return ResourceKey(TYPE_LISTENER, name, names.audience_scope(audience))


@derived("sidecar_listeners", each(SIGHTS, _sidecar_listeners))
def SIDECAR_LISTENERS(key: ResourceKey, look: Look) -> Resource | None:  # noqa: N802
    """The listeners of sidecars, on their way out and in."""
    if key.scope == EGRESS_SCOPE:
        port = int(key.name.rpartition(":")[2])
        return resource(key.type_url, key.name, encode_checked(egress_listener(port)))
    wanted = wanted_at(key)
    if wanted is not None:
        reached = look(UPSTREAMS, wanted)
        needs = set(names.with_members(reached.cluster)) if reached is not None else set()
        return resource(key.type_url, key.name, encode_checked(upstream_listener(key, reached)), needs=needs)
    audience = names.audience_of(key.scope)
    sight = look(SIGHTS, audience)
    fronted = sight.fronted_port if sight is not None else None
    modes = peer_modes(look, sight.fronts) if sight is not None and sight.fronts is not None else PeerModes()
    made = ingress_listener(audience, fronted, modes.of_port(audience.ingress_port), mesh_settings(look))
    needs = {ingress_cluster(audience, fronted)}
    if sight is None or sight.fronts is None or fronted is None:
        return resource(key.type_url, key.name, encode_checked(made), needs=needs)
    target = Patched("Service", *sight.fronts, "Listener")
    return _patched(look, key, made, needs, target, frozenset({fronted.name, str(fronted.port)}))


def _grpc_listener(key: SeenPortKey, _row: BuiltVirtualHost) -> tuple[ResourceKey, ...]:
    return (grpc_listener_key(key),) if key.clients.grpc else ()


def grpc_listener_key(key: SeenPortKey) -> ResourceKey:
    """The listener of a service port for gRPC clients, the same in all namespaces."""
    return ResourceKey(TYPE_LISTENER, names.mesh_authority(key.service, key.port), names.GRPC_SCOPE)


@derived("grpc_listeners", each(SERVICE_HOSTS, _grpc_listener))
def GRPC_LISTENERS(key: ResourceKey, look: Look) -> Resource | None:  # noqa: N802, ARG001
    """What gRPC clients ask for first."""
    return resource(key.type_url, key.name, encode_checked(api_listener(key.name)))
