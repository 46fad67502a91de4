"""Which services the routes of which Gateways name: whoever is told of a service's policy asks here."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from mesh.attachments import ATTACHMENTS
from mesh.gateways import GatewayKey
from mesh.kinds.references import BackendObjectReference
from mesh.model import ObjectKey, ServiceKey
from mesh.request_routes import find_request_route
from mesh.routes import find_stream_route
from mesh.services import SUBSETS, SubsetKey
from mesh.tables import Look, Reader, derived, each


class References(msgspec.Struct, frozen=True):
    """The services and the Backends (`outside`) that a route names, and its Gateways; sorted.

    Those of mirrors and authorizers are named too.
    """

    services: tuple[ServiceKey, ...]
    gateways: tuple[GatewayKey, ...]
    outside: tuple[ServiceKey, ...] = ()


@derived("references", each(ATTACHMENTS))
def REFERENCES(key: ObjectKey, look: Look) -> References | None:  # noqa: N802
    """Each route of a Gateway that names a service or a Backend."""
    attachment = look(ATTACHMENTS, key)
    gateways = sorted({at.gateway for at in attachment.listeners()}) if attachment is not None else []
    if not gateways:
        return None
    services = {service for ref in _refs(look, key) if (service := _service(look, key, ref)) is not None}
    outside = {
        ServiceKey(ref.namespace or key.namespace, ref.name) for ref in _refs(look, key) if ref.kind == "Backend"
    }
    if not services and not outside:
        return None
    return References(tuple(sorted(services)), tuple(gateways), tuple(sorted(outside)))


REFERENCES_BY_SERVICE = REFERENCES.index("service", lambda _, row: row.services)


REFERENCES_BY_OUTSIDE = REFERENCES.index("outside", lambda _, row: row.outside)


def gateways_of(look: Reader, service: ServiceKey, *, outside: bool = False) -> set[GatewayKey]:
    """The Gateways whose routes name a service, or with `outside` the Backend of that name."""
    index = REFERENCES_BY_OUTSIDE if outside else REFERENCES_BY_SERVICE
    return {gateway for row in look.rows(index, service) for gateway in row.gateways}


def _refs(look: Look, key: ObjectKey) -> Iterator[BackendObjectReference]:
    stream = find_stream_route(look, key)
    if stream is not None:
        for stream_rule in stream.spec.rules:
            yield from stream_rule.backend_refs
        return
    route = find_request_route(look, key)
    for rule in route.rules if route is not None else ():
        yield from rule.backend_refs
        for one in rule.filters:
            if one.request_mirror is not None:
                yield one.request_mirror.backend_ref
            elif one.external_auth is not None:
                yield one.external_auth.backend_ref


def _service(look: Look, route: ObjectKey, ref: BackendObjectReference) -> ServiceKey | None:
    namespace = ref.namespace or route.namespace
    if ref.kind == "ServiceSubset":
        subset = look(SUBSETS, SubsetKey(namespace, ref.name))
        return subset.service if subset is not None else None
    return ServiceKey(namespace, ref.name) if ref.kind == "Service" else None
