"""Translation without a server: from rows to the Envoy resources that an audience would be sent, as dictionaries.

For `fairlead translate`, golden tests and anyone who wants to read what Envoy gets.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mesh.model import AUDIENCES, Audience, Connected
from mesh.tables import Change, Engine, Present
from xds.resources import Resource, ViewKey
from xds.schema import message, to_dict, unpack
from xds.schema.type_urls import CODES, TYPE_ROUTE, TYPE_SCOPED_ROUTE
from xds.translate.tables import RESOURCE_TABLES, TABLES, VIEWS
from xds.translate.views import present


def translate(changes: Iterable[Change], audience: Audience) -> dict[str, list[dict[str, Any]]]:
    """What an audience sees of each type (by type URL, in the order of sending), each resource as a dictionary.

    An audience without resources of a type, such as a Gateway that does not exist, has an empty list of it.
    """
    engine = Engine(TABLES)
    engine.commit([*changes, Change(AUDIENCES, audience, Connected())])
    return translated(engine, audience)


def translated(engine: Engine, audience: Audience) -> dict[str, list[dict[str, Any]]]:
    """The same for an engine that is there already."""
    return {
        type_url: [to_dict(unpack_resource(resource)) for resource in resources(engine, audience, type_url)]
        for type_url in sorted(RESOURCE_TABLES, key=list(CODES).index)
    }


def resources(engine: Engine, audience: Audience, type_url: str) -> list[Resource]:
    """The resources of a type that an audience asks for, sorted by name, with what stands for rejected ones."""
    view = engine.get(VIEWS, ViewKey(audience, type_url))
    if view is None or type_url == _unasked(audience):
        return []
    overrides = dict(view.overrides)
    look = Present(engine)
    found = (overrides[key] if key in overrides else present(look, key) for key in view.keys)
    return sorted((resource for resource in found if resource is not None), key=lambda resource: resource.name)


def _unasked(audience: Audience) -> str:
    """The form of routes that no listener of a gateway names, though it could have them (`views.routes_scope`)."""
    if audience.kind != "gateway":
        return ""
    return TYPE_SCOPED_ROUTE if audience.sotw else TYPE_ROUTE


def unpack_resource(resource: Resource) -> Any:
    """The message inside a resource."""
    return unpack(message("google.protobuf.Any").FromString(resource.any))
