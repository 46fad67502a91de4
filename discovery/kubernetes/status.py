"""What to write into an object's `status`: our verdict beside what the object holds already, or nothing.

Pure. It owns which entries are ours and how they are merged with those of others; when and how often to write is
`status_writer.py`'s business, and what the verdict is the model's (`mesh.statuses`).

Ours are: conditions of the types that Gateway API reserves for an object's controller, in lists of an object that is
ours; the entries with our controller's name in the `parents` of routes and the `ancestors` of policies; addresses,
listeners and supported features of our Gateways and classes. Conditions of other types and entries of other controllers
come out as they went in.

How it is written: a JSON merge patch of the status subresource with the `resourceVersion` that the decision was made
from, for all kinds alike.

- `parents` is an atomic list (CRDs of Gateway API v1.6): whoever writes it writes the entries of all controllers. So
  the writer must know the list it replaces, and must fail if there is another by then. That is the precondition.
  Server-side apply gives one manager the whole list, and takes it from the others without a word when forced.
- `conditions` and `listeners` are maps (by `type`, by `name`), where server-side apply would touch our entries only and
  need no precondition. But it needs the present status too (the time of the last transition), it cannot tell a verdict
  that is out of date from a new one when two replicas think that they lead, and entries which another of our field
  managers once wrote stay forever. With the precondition the second replica is refused, reads again, and finds nothing
  left to write.
- A JSON patch with `test` operations would be refused less often, but by indexes into lists that move, and its refusal
  (422) cannot be told from that of an invalid object.

A merge patch names whole fields, and only those that differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from mesh.attachments import ROUTES
from mesh.kinds.gatewayclass import CONTROLLER_NAME
from mesh.kinds.meta import JSON
from mesh.kinds.references import GATEWAY_API
from mesh.status import Status

OWN_TYPES = frozenset(
    {
        "Accepted",
        "Conflicted",
        "InsecureFrontendValidationMode",
        "KeysFetched",
        "Programmed",
        "Progressing",
        "ResolvedRefs",
        "SupportedVersion",
    }
)
"""The types of condition that an object's controller writes, of Gateway API's choosing but for those of our kinds."""

# What the CRDs of v1.6.3 hold at most; one entry more and the whole status is refused.
MOST_PARENTS = 32
MOST_ANCESTORS = 16
MOST_LISTENERS = 64
MOST_CONDITIONS = 8
MOST_ADDRESSES = 16
_LONGEST_MESSAGE = 2_000  # of 32,768; 64 listeners with an Envoy's long complaint must fit into one object

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "Gateway": ("addresses", "listeners", "attachedListenerSets"),
    "ListenerSet": ("listeners",),
    "GatewayClass": ("supportedFeatures",),
    "Rollout": ("rollout",),
}


class Entries(NamedTuple):
    """A list of a status with entries of several controllers: its field, that of what each is about, and how many."""

    field: str
    ref: str
    most: int


PARENTS = Entries("parents", "parentRef", MOST_PARENTS)
ANCESTORS = Entries("ancestors", "ancestorRef", MOST_ANCESTORS)
ANCESTRAL = frozenset({"BackendTLSPolicy"})
"""Kinds of which is told in `ancestors`."""


class _ParentKey(NamedTuple):
    """What a parentRef means, however it was spelled."""

    group: str
    kind: str
    namespace: str
    name: str
    section: str
    port: int


def changes(
    kind: str, namespace: str, wanted: Status | None, present: JSON, *, now: str, former: Status | None = None
) -> JSON | None:
    """The fields of an object's `status` to be replaced (None as a value: removed), or None where all is said already.

    `wanted` None: the object is not ours, and what we said of it goes: entries with our name, and of a list without
    names what still reads as we wrote it in `former`, our last status of it. `present` is `status` as the API server
    holds it, `now` a time as Kubernetes writes it.
    """
    if kind in ROUTES or kind in ANCESTRAL:
        entries = ANCESTORS if kind in ANCESTRAL else PARENTS
        merged = _entries(entries, namespace, wanted, _items(present.get(entries.field)), now)
        target: JSON = {entries.field: merged} if merged or entries.field in present else {}
    elif wanted is not None and wanted.conditions:
        target = _ours(kind, wanted, present, now)
    elif former is not None:
        target = _released(kind, former, present)
    else:
        return None
    return {field: value for field, value in target.items() if value != present.get(field)} or None


def says_the_same(one: Status | None, other: Status | None) -> bool:
    """Whether two statuses hold the same verdicts, whatever their counts and words: then it can wait to be told.

    How far a Rollout is does not wait: a replica that takes over goes on from what the status says.
    """
    return (one is None) == (other is None) and (one is None or other is None or _verdicts(one) == _verdicts(other))


def _verdicts(status: Status) -> list[tuple[Any, ...]]:
    listeners = [(listener.name, condition) for listener in status.listeners for condition in listener.conditions]
    parents = [(parent.ref, condition) for parent in status.parents for condition in parent.conditions]
    parents += [(ancestor.ref, condition) for ancestor in status.ancestors for condition in ancestor.conditions]
    of_object = [("", condition) for condition in status.conditions]
    said = [(at, condition.type, condition.status) for at, condition in (*of_object, *listeners, *parents)]
    rollout = status.rollout
    far = (rollout.moves, rollout.phase, rollout.step, rollout.weight) if rollout is not None else ()
    return [(status.addresses,), far, *said]


def _ours(kind: str, wanted: Status, present: JSON, now: str) -> JSON:
    said = _capped(wanted)
    target: JSON = {"conditions": _conditions(said["conditions"], _items(present.get("conditions")), now)}
    for field in _FIELDS.get(kind, ()):
        if field in said or field in present:
            target[field] = said.get(field)
    if target.get("listeners") is not None:
        target["listeners"] = _listeners(target["listeners"], _items(present.get("listeners")), now)
    return target


def _capped(status: Status) -> JSON:
    """The wire form of a status, as much of it as the CRDs hold."""
    said = status.to_json()
    for field, most in (("addresses", MOST_ADDRESSES), ("listeners", MOST_LISTENERS)):
        if field in said:
            said[field] = said[field][:most]
    return said


def _conditions(wanted: Sequence[JSON], present: Sequence[Any], now: str) -> list[Any]:
    """Our conditions where they stand or at the end; the time of transition stays unless the verdict changed."""
    foreign = sum(_type(held) not in OWN_TYPES for held in present)
    left = {said["type"]: said for said in wanted[: max(0, MOST_CONDITIONS - foreign)]}
    merged: list[Any] = []
    for held in present:
        if _type(held) not in OWN_TYPES:
            merged.append(held)
        elif (said := left.pop(held["type"], None)) is not None:
            since = held.get("lastTransitionTime") if held.get("status") == said["status"] else None
            merged.append(_condition(said, since or now))
    return [*merged, *(_condition(said, now) for said in left.values())]


def _condition(said: JSON, since: str) -> JSON:
    return {**said, "message": _message(said), "lastTransitionTime": since}


def _message(said: JSON) -> str:
    message: str = said["message"]
    return message if len(message) <= _LONGEST_MESSAGE else f"{message[: _LONGEST_MESSAGE - 1]}…"


def _type(condition: Any) -> str:
    kind = condition.get("type") if isinstance(condition, dict) else None
    return kind if isinstance(kind, str) else ""


def _listeners(wanted: Sequence[JSON], present: Sequence[Any], now: str) -> list[JSON]:
    """One entry for each listener that there is, with the conditions that others put there."""
    held = {entry["name"]: entry for entry in present if isinstance(entry, dict) and "name" in entry}
    merged: list[JSON] = []
    for said in wanted:
        entry = held.get(said["name"], {})
        conditions = _conditions(said["conditions"], _items(entry.get("conditions")), now)
        merged.append({**entry, **said, "conditions": conditions})
    return merged


def _entries(entries: Entries, namespace: str, wanted: Status | None, present: Sequence[Any], now: str) -> list[Any]:
    """The entries of other controllers as they are, and ours: where they stand already, else at the end."""
    left: dict[_ParentKey, JSON] = {}
    foreign = sum(not _is_ours(entry) for entry in present)
    told = wanted.to_json().get(entries.field, []) if wanted is not None else []
    for said in told[: max(0, entries.most - foreign)]:
        ref = {"group": GATEWAY_API, "kind": "Gateway", **said[entries.ref]}
        left.setdefault(_parent_key(ref, namespace), {**said, entries.ref: ref})
    merged: list[Any] = []
    for entry in present:
        if not _is_ours(entry):
            merged.append(entry)
        elif (ours := left.pop(_parent_key(entry.get(entries.ref), namespace), None)) is not None:
            merged.append(_parent(ours, _items(entry.get("conditions")), now))
    return [*merged, *(_parent(ours, (), now) for ours in left.values())]


def _parent(ours: JSON, held: Sequence[Any], now: str) -> JSON:
    return {**ours, "conditions": _conditions(ours["conditions"], held, now)}


def _is_ours(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("controllerName") == CONTROLLER_NAME


def _parent_key(ref: Any, namespace: str) -> _ParentKey:
    at = ref if isinstance(ref, dict) else {}
    return _ParentKey(
        at.get("group", GATEWAY_API),
        at.get("kind", "Gateway"),
        at.get("namespace") or namespace,
        at.get("name", ""),
        at.get("sectionName") or "",
        at.get("port") or 0,
    )


def _released(kind: str, former: Status, present: JSON) -> JSON:
    """What stays of a status that was ours: nothing that still reads as we wrote it, all that others wrote since."""
    said = _capped(former)
    held = _items(present.get("conditions"))
    kept = _without(said.get("conditions", ()), held)
    # Where nothing is left the field itself goes: the CRD's default ("Waiting for controller") comes in its place.
    target: JSON = {"conditions": kept or None} if len(kept) < len(held) else {}
    for field in _FIELDS.get(kind, ()):
        if field == "listeners" and field in present:
            target[field] = _without_listeners(said.get(field, ()), _items(present[field])) or None
        elif field in present and present[field] == said.get(field):
            target[field] = None
    return target


def _without_listeners(said: Iterable[JSON], present: Sequence[Any]) -> list[Any]:
    ours = {entry["name"]: entry["conditions"] for entry in said}
    kept: list[Any] = []
    for entry in present:
        name = entry.get("name") if isinstance(entry, dict) else None
        held = _items(entry.get("conditions")) if isinstance(entry, dict) else ()
        rest = _without(ours.get(name, ()), held)
        if len(rest) == len(held):
            kept.append(entry)
        elif rest:
            kept.append({**entry, "conditions": rest})
    return kept


def _without(said: Iterable[JSON], held: Sequence[Any]) -> list[Any]:
    ours = {(each["type"], each["status"], each["reason"], _message(each)) for each in said}
    return [each for each in held if not isinstance(each, dict) or _words(each) not in ours]


def _words(held: JSON) -> tuple[Any, ...]:
    return held.get("type"), held.get("status"), held.get("reason"), held.get("message")


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()
