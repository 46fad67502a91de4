"""What holds for a target: which policies are for it, and how their fields merge. One rule for all kinds of policies.

A target has levels, the widest first: the mesh, its namespace, the object, a part of it. From the strongest to the
weakest, a field is taken from

1. `overrides`, of the widest level first,
2. the policies' own fields (defaults), of the narrowest level first;

and among policies of one level from the oldest, then by namespace and name (Gateway API's GEP-713 and GEP-2649). Fields
merge one by one; lists, and what stands together as one decision (`mesh.kinds.policy.Atomic`), are taken whole. Each
field remembers which object said so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from mesh.kinds.clientpolicy import ClientSettings
from mesh.kinds.meta import Object, Spec
from mesh.kinds.policy import Atomic, PolicyTargetReference
from mesh.kinds.requestauthentication import RequestAuthenticationSettings
from mesh.kinds.routepolicy import RouteSettings
from mesh.kinds.telemetrypolicy import TelemetrySettings
from mesh.kinds.trafficpolicy import TrafficPolicy, TrafficSettings
from mesh.model import Declared, ObjectKey, ServiceKey, mesh_settings
from mesh.objects import OBJECTS
from mesh.precedence import age
from mesh.services import SERVICES, SUBSETS, Service, Subset, SubsetKey
from mesh.tables import Look, Reader, derived, each

S = TypeVar("S", bound=Spec)

POLICY_KINDS: dict[str, type[Spec]] = {
    "RequestAuthentication": RequestAuthenticationSettings,
    "ClientPolicy": ClientSettings,
    "RoutePolicy": RouteSettings,
    "TelemetryPolicy": TelemetrySettings,
    "TrafficPolicy": TrafficSettings,
}
"""The kinds of policies, and what each can set."""


class Target(NamedTuple):
    """An object that policies of a kind may be for. A Service is the merged one, whatever group named it."""

    policy: str
    kind: str
    namespace: str
    name: str


class Level(NamedTuple):
    """A target, or, with `sections`, a part of it by any of its names."""

    target: Target
    sections: frozenset[str] = frozenset()


class _PolicySpec(Protocol):
    target_refs: tuple[PolicyTargetReference, ...]
    overrides: Spec | None


class Layer(NamedTuple):
    """What one policy sets."""

    settings: Spec
    origin: ObjectKey


class Origin(NamedTuple):
    """A field by its path in the policy (`loadBalancer.type`), and the object that set it."""

    path: str
    policy: ObjectKey


class Effective(msgspec.Struct, frozen=True):
    """What holds for a target: the merged settings, and for each field whose it is."""

    settings: Any
    origins: tuple[Origin, ...]

    def said_by(self, path: str) -> ObjectKey:
        """The object that set a field which is set."""
        return next(origin.policy for origin in self.origins if origin.path == path)


def _spec(policy: Object) -> _PolicySpec:
    spec: _PolicySpec = policy.spec  # type: ignore[attr-defined]  # all kinds of POLICY_KINDS have one
    return spec


def _targets(key: ObjectKey, row: Declared) -> Iterable[Target]:
    if key.kind not in POLICY_KINDS:
        return ()
    return {target_of(key, ref) for ref in _spec(row.object).target_refs}


def target_of(policy: ObjectKey, ref: PolicyTargetReference) -> Target:
    """What a reference of a policy names: always something of its own namespace."""
    return Target(policy.kind, ref.kind, policy.namespace, ref.name)


POLICIES_BY_TARGET = OBJECTS.index("policy target", _targets)


def layers(look: Reader, levels: Sequence[Level]) -> list[Layer]:
    """What policies set at these levels (the widest first), the strongest first."""
    found = [_policies(look, level) for level in levels]
    over = [
        Layer(overrides, key)
        for level in found
        for key, policy in level
        if (overrides := _spec(policy).overrides) is not None
    ]
    return over + [Layer(policy.spec, key) for level in reversed(found) for key, policy in level]  # type: ignore[attr-defined]


def _policies(look: Reader, level: Level) -> list[tuple[ObjectKey, Object]]:
    """The policies of a level, the oldest first."""
    found = []
    for key in look.keys(POLICIES_BY_TARGET, level.target):
        row = look(OBJECTS, key)
        if row is not None and any(_names(key, ref, level) for ref in _spec(row.object).target_refs):
            found.append((key, row.object))
    return sorted(found, key=lambda item: age(item[1].metadata))


def reached(look: Reader, level: Level) -> bool:
    """Whether some policy is for exactly that level."""
    return bool(_policies(look, level))


def _names(policy: ObjectKey, ref: PolicyTargetReference, level: Level) -> bool:
    if target_of(policy, ref) != level.target:
        return False
    return ref.section_name in level.sections if level.sections else ref.section_name is None


def merge(found: Sequence[Layer], of: type[S]) -> Effective | None:
    """The settings that hold where these layers do, the strongest first; None where nobody sets anything."""
    if not found:
        return None
    origins: list[Origin] = []
    settings = _merged(of, [(layer.settings, layer.origin) for layer in found], "", origins)
    return Effective(settings, tuple(origins)) if origins else None


def _merged(of: type[S], given: Sequence[tuple[Any, ObjectKey]], path: str, origins: list[Origin]) -> S:
    values: dict[str, Any] = {}
    # Not `msgspec.structs.fields`, which reads all annotations again: a fifth of a millisecond for each changed route.
    for name, encoded in zip(of.__struct_fields__, of.__struct_encode_fields__, strict=True):
        set_by = [(value, by) for struct, by in given if (value := getattr(struct, name)) is not None]
        if not set_by:
            continue
        first, origin = set_by[0]
        at = f"{path}{encoded}"
        if _merges(first):
            values[name] = _merged(type(first), set_by, f"{at}.", origins)
        else:
            values[name] = first
            origins.append(Origin(at, origin))
    return of(**values)


def _merges(value: object) -> bool:
    """Whether the fields of a value merge one by one."""
    return isinstance(value, Spec) and not isinstance(value, Atomic)


def paths(settings: Spec, of: type[Spec]) -> frozenset[str]:
    """The paths of all fields that a policy sets."""
    origins: list[Origin] = []
    _merged(of, [(settings, ObjectKey("", "", ""))], "", origins)
    return frozenset(origin.path for origin in origins)


def paths_of(policy: Object) -> frozenset[str]:
    """The paths of all fields that a policy sets, those of its overrides with their prefix."""
    of = POLICY_KINDS[policy.kind]
    spec: Any = _spec(policy)
    over = paths(spec.overrides, of) if spec.overrides is not None else frozenset[str]()
    return paths(spec, of) | {f"overrides.{path}" for path in over}


class Loss(NamedTuple):
    """A field that an older policy for the same target sets too."""

    path: str
    winner: ObjectKey


def losses(look: Reader, policy: ObjectKey, levels: Iterable[Level]) -> Iterator[Loss]:
    """The fields of a policy that do not count at these levels because an older one there sets them too."""
    of = POLICY_KINDS[policy.kind]
    for level in levels:
        older: dict[tuple[bool, str], ObjectKey] = {}
        for key, item in _policies(look, level):
            spec: Any = _spec(item)
            stanzas = ((False, spec), *(((True, spec.overrides),) if spec.overrides is not None else ()))
            for over, settings in stanzas:
                for path in sorted(paths(settings, of)):
                    if key == policy and (over, path) in older:
                        yield Loss(f"overrides.{path}" if over else path, older[over, path])
                    older.setdefault((over, path), key)


def namespace_levels(look: Reader, policy: str, namespace: str) -> list[Level]:
    """The levels that all of a namespace share: the mesh's, which is the root namespace's, and its own."""
    root = mesh_settings(look).root_namespace
    around = [root] if root == namespace else [root, namespace]
    return [Level(Target(policy, "Namespace", each, each)) for each in around]


# -- backends ---------------------------------------------------------------------------------------------------------


class BackendKey(NamedTuple):
    """A service, or a subset of it (the name of a ServiceSubset); `outside`: a Backend of that name instead."""

    service: ServiceKey
    subset: str = ""
    outside: bool = False


class Ports(msgspec.Struct, frozen=True):
    """What the policies of a kind say of a backend: of all its ports, and of those for which it differs."""

    whole: Effective | None = None
    ports: tuple[tuple[int, Effective], ...] = ()

    def of_port(self, number: int) -> Effective | None:
        """What holds for a port."""
        return next((effective for port, effective in self.ports if port == number), self.whole)


def backend_levels(look: Reader, policy: str, key: BackendKey, sections: frozenset[str] = frozenset()) -> list[Level]:
    """The levels of a backend, or of one of its ports by name and number, the widest first."""
    namespace, name = key.service
    levels = namespace_levels(look, policy, namespace)
    backends = [Target(policy, "Backend" if key.outside else "Service", namespace, name)]
    if key.subset:
        backends.append(Target(policy, "ServiceSubset", namespace, key.subset))
    for target in backends:
        levels.append(Level(target))
        if sections:
            levels.append(Level(target, sections))
    return levels


def _subset(key: SubsetKey, row: Subset) -> tuple[BackendKey]:
    return (BackendKey(row.service, key.name),)


def _outside(key: ObjectKey, _row: Declared) -> tuple[BackendKey, ...]:
    return (BackendKey(ServiceKey(key.namespace, key.name), outside=True),) if key.kind == "Backend" else ()


@derived("traffic", each(SERVICES, lambda key, _: (BackendKey(key),)), each(SUBSETS, _subset), each(OBJECTS, _outside))
def TRAFFIC(key: BackendKey, look: Look) -> Ports | None:  # noqa: N802
    """The backends of which some TrafficPolicy says something."""
    return of_backend(look, TrafficPolicy.__name__, key)


def of_backend(look: Look, policy: str, key: BackendKey) -> Ports | None:
    """What the policies of a kind say of a backend."""
    if key.outside:
        there = look(OBJECTS, ObjectKey("Backend", *key.service)) is not None
        said = merge(layers(look, backend_levels(look, policy, key)), POLICY_KINDS[policy]) if there else None
        return Ports(said) if said is not None else None
    service = look(SERVICES, key.service)
    if service is None:
        return None
    whole = merge(layers(look, backend_levels(look, policy, key)), POLICY_KINDS[policy])
    ports = tuple(_of_ports(look, policy, key, service, whole)) if _by_port(look, policy, key) else ()
    return Ports(whole, ports) if whole is not None or ports else None


def _of_ports(
    look: Look, policy: str, key: BackendKey, service: Service, whole: Effective | None
) -> Iterator[tuple[int, Effective]]:
    for port in service.ports:
        sections = frozenset({str(port.port), *([port.name] if port.name else [])})
        effective = merge(layers(look, backend_levels(look, policy, key, sections)), POLICY_KINDS[policy])
        if effective is not None and effective != whole:
            yield port.port, effective


def _by_port(look: Look, policy: str, key: BackendKey) -> bool:
    """Whether some policy names a port of the backend."""
    for level in backend_levels(look, policy, key):
        for at in look.keys(POLICIES_BY_TARGET, level.target):
            row = look(OBJECTS, at)
            if row is not None and any(ref.section_name for ref in _spec(row.object).target_refs):
                return True
    return False


# -- what people are told ---------------------------------------------------------------------------------------------


class Told(NamedTuple):
    """What holds for a target, for people: an object, perhaps a part of it; `where`, if not everywhere."""

    policy: str
    kind: str
    namespace: str
    name: str
    section: str
    effective: Effective
    where: str = ""


def told_of_backends(policy: str, rows: Iterable[tuple[BackendKey, Ports]]) -> Iterator[Told]:
    """What the policies of a kind come to for each backend, sorted."""
    for key, row in sorted(rows, key=lambda item: item[0]):
        namespace, service = key.service
        kind, name = ("ServiceSubset", key.subset) if key.subset else ("Service", service)
        kind = "Backend" if key.outside else kind
        if row.whole is not None:
            yield Told(policy, kind, namespace, name, "", row.whole)
        for port, effective in row.ports:
            yield Told(policy, kind, namespace, name, str(port), effective)
