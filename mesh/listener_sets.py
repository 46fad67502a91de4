"""Which ListenerSets belong to a Gateway, and in what order: the oldest first, then by namespace and name.

The Gateway says whose it takes (`allowedListeners`; none by default). Of listeners that cannot be told apart the first
has the port: the Gateway's own, then those of older sets.
"""

from __future__ import annotations

from collections.abc import Iterable

from mesh.kinds.gateway import Gateway
from mesh.kinds.listenerset import ListenerSet
from mesh.kinds.references import GATEWAY_API
from mesh.listeners import namespace_labels
from mesh.model import Declared, ObjectKey
from mesh.objects import OBJECTS, find
from mesh.precedence import age
from mesh.tables import Reader


def gateway_of(listener_set: ListenerSet) -> ObjectKey | None:
    """The Gateway that a set names; None where it names something else."""
    ref = listener_set.spec.parent_ref
    if (ref.group, ref.kind) != (GATEWAY_API, Gateway.__name__):
        return None
    return ObjectKey(Gateway.__name__, ref.namespace or listener_set.metadata.namespace, ref.name)


def _parent(_key: ObjectKey, row: Declared) -> Iterable[ObjectKey]:
    parent = gateway_of(row.object) if isinstance(row.object, ListenerSet) else None
    return (parent,) if parent is not None else ()


LISTENER_SETS_BY_GATEWAY = OBJECTS.index("listener_sets", _parent)


def allowed(look: Reader, gateway: Gateway, namespace: str) -> bool:
    """Whether a Gateway takes ListenerSets of a namespace."""
    if gateway.spec.allowed_listeners is None:
        return False
    namespaces = gateway.spec.allowed_listeners.namespaces
    if namespaces.from_ == "Selector":
        selector = namespaces.selector
        return selector is not None and selector.selects(namespace_labels(look, namespace))
    return namespaces.from_ == "All" or (namespaces.from_ == "Same" and namespace == gateway.metadata.namespace)


def attached_sets(look: Reader, gateway: Gateway) -> tuple[ListenerSet, ...]:
    """The sets whose listeners a Gateway takes, in their order."""
    key = ObjectKey(Gateway.__name__, gateway.metadata.namespace, gateway.metadata.name)
    found = (find(look, ListenerSet, at) for at in look.keys(LISTENER_SETS_BY_GATEWAY, key))
    taken = (one for one in found if one is not None and allowed(look, gateway, one.metadata.namespace))
    return tuple(sorted(taken, key=lambda one: age(one.metadata)))
