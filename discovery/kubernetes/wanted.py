"""What should run a Gateway, as the model says now. Pure: reads rows, does nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from discovery.kubernetes.provision import Files, Settings, manifests
from discovery.kubernetes.provisioned import Trouble
from mesh.client_policies import CLIENT_RULES, NO_RULES
from mesh.gateways import GATEWAYS, Gateway, GatewayKey
from mesh.kinds.gateway import Gateway as GatewayObject
from mesh.kinds.gatewayclass import GatewayClass
from mesh.kinds.gatewayparameters import GatewayParametersSpec, ServiceType
from mesh.kinds.meta import JSON
from mesh.model import ObjectKey
from mesh.objects import find, source_of
from mesh.provisioning import class_parameters_problem, parameters, resource_name
from mesh.tables import Reader

_log = logging.getLogger(__name__)

Render = Callable[[GatewayObject, GatewayParametersSpec], Files | None]
"""Makes what the proxies of a Gateway read; None: it cannot be made yet."""


class Wanted(msgspec.Struct, frozen=True):
    """What should run a Gateway. `manifests` None: leave what is there, and `trouble` may say why.

    `requested`: the Gateway asks for addresses.
    """

    name: str
    service_type: ServiceType
    requested: bool = False
    manifests: tuple[JSON, ...] | None = None
    trouble: Trouble | None = None


def wanted(look: Reader, key: GatewayKey, *, source: str, settings: Settings, render: Render) -> Wanted | None:
    """What the platform of a source should run a Gateway with; None: nothing, it is not this platform's to run."""
    row = look(GATEWAYS, key)
    at = ObjectKey("Gateway", key.namespace, key.name)
    gateway = find(look, GatewayObject, at)
    if gateway is None:
        return None
    if row is None:
        # Without its class nobody can tell whose it is. Its proxies stay, and with them its addresses.
        named = ObjectKey("GatewayClass", "", gateway.spec.gateway_class_name)
        if find(look, GatewayClass, named) is not None or source_of(look, at) != source:
            return None
        return Wanted(resource_name(key.name, gateway.spec.gateway_class_name), settings.service_type)
    if row.platform != source:
        return None
    try:
        return _of_row(look, gateway, row, settings, render)
    except Exception as error:  # noqa: BLE001 - a defect costs one Gateway, not the program
        return Wanted(row.service_account, settings.service_type, trouble=defect(key, error))


def _of_row(look: Reader, gateway: GatewayObject, row: Gateway, settings: Settings, render: Render) -> Wanted:
    merged = parameters(look, gateway)
    class_name = gateway.spec.gateway_class_name
    made = Wanted(
        resource_name(gateway.metadata.name, class_name),
        merged.service_type or settings.service_type,
        requested=bool(row.requested),
    )
    found = find(look, GatewayClass, ObjectKey("GatewayClass", "", class_name))
    problem = class_parameters_problem(look, found) if found is not None else ""
    if problem:
        return msgspec.structs.replace(made, trouble=Trouble("Invalid", f"GatewayClass {class_name}: {problem}"))
    files = render(gateway, merged) if row.accepted else None
    if files is None:
        return made
    rules = look(CLIENT_RULES, GatewayKey(gateway.metadata.namespace, gateway.metadata.name)) or NO_RULES
    http3 = {port for _, port in rules.quic}
    return msgspec.structs.replace(
        made, manifests=manifests(gateway, row, merged, settings, files, http3=http3) or None
    )


def defect(key: GatewayKey, error: Exception) -> Trouble:
    """What to tell, and to log, where the fault is ours."""
    _log.error("Gateway %s/%s cannot be provisioned, a defect of ours", *key, exc_info=error)
    return Trouble("Pending", f"A defect of Fairlead, see its log: {type(error).__name__}: {error}.")
