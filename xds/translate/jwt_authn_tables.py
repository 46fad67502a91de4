"""The tables of what `jwt_authn` gets over ECDS: one resource for each of its two filters at each gateway and sidecar.

They are there whether any policy is or not, because every listener asks for them and would wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from mesh.audiences import SIGHTS, Sight
from mesh.gateways import GATEWAYS, GatewayKey
from mesh.model import Audience
from mesh.policies import BackendKey, Effective
from mesh.request_authentication import (
    REQUIREMENTS,
    REQUIREMENTS_BY_GATEWAY,
    WORKLOAD_REQUIREMENTS,
    Guarded,
    keys_of,
    required_by,
    rules_of,
)
from mesh.tables import Look, derived, each
from xds.resources import Resource, ResourceKey, requirement
from xds.schema import pack
from xds.schema.type_urls import TYPE_EXTENSION_CONFIG
from xds.schema.types import TypedExtensionConfig
from xds.translate import names
from xds.translate.framing import encode_checked, resource
from xds.translate.http_filters import IDENTITY_HEADERS, JWT_AUTHN
from xds.translate.jwt_authn import Demand, identity_headers, jwt_authentication, requirement_name


class ProxyKey(NamedTuple):
    """The proxies that share requirements: the scope of a gateway, or of one workload's sidecars."""

    scope: str


class Demands(msgspec.Struct, frozen=True):
    """What proxies demand of requests: of all whose routes name nothing, and by name, sorted."""

    everywhere: Demand | None
    named: tuple[tuple[str, Demand], ...]


NOTHING = Demands(None, ())


def _scope(audience: Audience) -> str:
    if audience.kind == "gateway":
        return names.gateway_scope(audience.namespace, audience.name)
    return names.audience_scope(audience)


def asks(audience: Audience) -> bool:
    """Whether listeners of an audience have the filters."""
    return audience.kind == "gateway" or bool(audience.kind == "sidecar" and audience.ingress_port and audience.port)


def _proxies(key: Audience, _row: Sight) -> tuple[ProxyKey, ...]:
    return (ProxyKey(_scope(key)),) if asks(key) else ()


@derived("demands", each(SIGHTS, _proxies))
def DEMANDS(key: ProxyKey, look: Look) -> Demands | None:  # noqa: N802
    """What each gateway, and each workload's sidecars, demand."""
    if key.scope.startswith("gateway/"):
        namespace, name, _ = names.gateway_of(key.scope)
        gateway = GatewayKey(namespace, name)
        return _at_gateway(look, gateway) if look(GATEWAYS, gateway) is not None else None
    audience = names.audience_of(key.scope)
    sight = look(SIGHTS, audience)
    if sight is None or sight.fronts is None or sight.fronted_port is None:
        return NOTHING
    ports = look(WORKLOAD_REQUIREMENTS, BackendKey(sight.fronts))
    effective = ports.of_port(sight.fronted_port.port) if ports is not None else None
    return Demands(_demand(look, effective) if effective is not None else None, ())


def _at_gateway(look: Look, gateway: GatewayKey) -> Demands:
    everywhere = None
    named: dict[str, Demand] = {}
    for key in look.keys(REQUIREMENTS_BY_GATEWAY, gateway):
        row = look(REQUIREMENTS, key)
        if row is None:
            continue
        demand = _demand(look, row.effective)
        if key.guarded == Guarded() and not key.section:
            everywhere = demand
        else:
            named[requirement_name(key.section, key.guarded)] = demand
    return Demands(everywhere, tuple(sorted(named.items(), key=lambda item: item[0])))


def _demand(look: Look, effective: Effective | None) -> Demand:
    issuers = tuple((rule, keys_of(look, rule)) for rule in rules_of(effective))
    return Demand(issuers, required_by(effective))


def filter_keys(scope: str, demands: Demands) -> tuple[ResourceKey, ...]:
    """The resources of proxies, sorted: the same for all that demand nothing."""
    own = "" if demands == NOTHING else scope
    return tuple(ResourceKey(TYPE_EXTENSION_CONFIG, name, own) for name in sorted((IDENTITY_HEADERS, JWT_AUTHN)))


def keys_for(look: Look, audience: Audience) -> tuple[ResourceKey, ...]:
    """What an audience gets: nothing where it stands for no Gateway."""
    row = look(DEMANDS, ProxyKey(_scope(audience))) if asks(audience) else None
    return filter_keys(_scope(audience), row) if row is not None else ()


def _filters(key: ProxyKey, row: Demands) -> Iterable[ResourceKey]:
    return filter_keys(key.scope, row)


@derived("filter_configs", each(DEMANDS, _filters))
def FILTER_CONFIGS(key: ResourceKey, look: Look) -> Resource | None:  # noqa: N802
    """The configuration of both filters."""
    demands = look(DEMANDS, ProxyKey(key.scope)) if key.scope else NOTHING
    if demands is None:
        return None
    named: Mapping[str, Demand] = dict(demands.named)
    if key.name == JWT_AUTHN:
        config = jwt_authentication(demands.everywhere, named)
    else:
        everywhere = [demands.everywhere] if demands.everywhere is not None else []
        config = identity_headers([*everywhere, *named.values()])
    made = TypedExtensionConfig()
    made.name = key.name
    made.typed_config.CopyFrom(pack(config))
    provides = {requirement(name) for name in named} if key.name == JWT_AUTHN else set[str]()
    return resource(key.type_url, key.name, encode_checked(made), provides=provides)
