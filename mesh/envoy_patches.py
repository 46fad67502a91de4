"""EnvoyPatches in the model: which are in force for what, and what is told of them.

What became of a patch on each resource is found where resources are made (`mesh.results`). One that made something
which an Envoy refused is out of force (`mesh.quarantine`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mesh.conditions import Condition
from mesh.kinds.envoypatch import RESOURCES, EnvoyPatch, EnvoyPatchSpec, PatchOperation
from mesh.kinds.policy import PolicyTargetReference
from mesh.model import Declared, ObjectKey, mesh_settings
from mesh.objects import OBJECTS, find
from mesh.precedence import age
from mesh.problems import sentence, shown
from mesh.quarantine import LONGEST, quarantined
from mesh.results import problems_of
from mesh.tables import Look, Reader

_SHOWN = 4


class Patched(NamedTuple):
    """An object of which Envoy resources are patched, and which of them; empty: those that its kind is mostly for.

    A Service is the merged one, whatever group named it.
    """

    kind: str
    namespace: str
    name: str
    resource: str = ""


def _targets(key: ObjectKey, row: Declared) -> Iterable[Patched]:
    if not isinstance(row.object, EnvoyPatch):
        return ()
    spec = row.object.spec
    return {Patched(ref.kind, key.namespace, ref.name, _resource(spec, ref.kind)) for ref in spec.target_refs}


def _resource(spec: EnvoyPatchSpec, kind: str) -> str:
    return spec.resource if spec.resource is not None and spec.resource != RESOURCES.get(kind, ("",))[0] else ""


PATCHES_BY_TARGET = OBJECTS.index("patched", _targets)


class PatchInForce(NamedTuple):
    """A patch to be applied."""

    key: ObjectKey
    operations: tuple[PatchOperation, ...]


def patches_of(
    look: Reader, target: Patched, sections: frozenset[str] = frozenset(), resource: str = ""
) -> list[PatchInForce]:
    """The patches in force for an object, or for a part of it by any of its names: the oldest is applied first.

    `resource` is the name of what they are for.
    """
    if not mesh_settings(look).envoy_patches:
        return []
    found = []
    for key in look.keys(PATCHES_BY_TARGET, target):
        patch = find(look, EnvoyPatch, key)
        if patch is not None and not quarantined(look, key, patch) and _means(patch, target, sections, resource):
            found.append((age(patch.metadata), PatchInForce(key, patch.spec.patch)))
    return [patch for _, patch in sorted(found, key=lambda item: item[0])]


def _means(patch: EnvoyPatch, target: Patched, sections: frozenset[str], resource: str) -> bool:
    if patch.spec.resource_name not in (None, resource):
        return False
    named = (ref for ref in patch.spec.target_refs if (ref.kind, ref.name) == (target.kind, target.name))
    return any(ref.section_name is None or ref.section_name in sections for ref in named)


def patch_conditions(look: Look, key: ObjectKey, missing: Iterable[str]) -> tuple[Condition, ...]:
    """The conditions of an EnvoyPatch; `missing` says for each target why it is not there, empty where it is."""
    patch = find(look, EnvoyPatch, key)
    if patch is None:
        return ()
    if not mesh_settings(look).envoy_patches:
        said = "This server applies no EnvoyPatch. Fix: start it with --envoy-patches if their writers can be trusted."
        return (Condition("Accepted", False, "Disabled", said),)
    why = list(missing)
    said = " ".join(f"spec.targetRefs[{at}]: {one}" for at, one in enumerate(why) if one)
    resolved = Condition("ResolvedRefs", not said, "TargetNotFound" if said else "ResolvedRefs", said)
    accepted = Condition("Accepted", True, "Accepted")
    if all(why):
        accepted = Condition("Accepted", False, "TargetNotFound", said)
    return (accepted, resolved, _programmed(look, key, patch))


def _programmed(look: Look, key: ObjectKey, patch: EnvoyPatch) -> Condition:
    out = quarantined(look, key, patch)
    if out is not None:
        then = "Everything stands without the patch. Fix: change it; it is then tried again."
        return Condition("Programmed", False, "Rejected", f"{out.words} {then}")
    rows = problems_of(look, key)
    failed = [f"{resource}: {sentence(shown(problem, LONGEST))}" for resource, problem in rows if problem]
    if failed:
        more = f" So do {len(failed) - _SHOWN} more." if len(failed) > _SHOWN else ""
        said = f"{' '.join(failed[:_SHOWN])} These stand without the patch.{more}"
        return Condition("Programmed", False, "PatchFailed", said)
    if not rows:
        return Condition("Programmed", False, "NoResources", "No proxy gets anything that it could change.")
    return Condition("Programmed", True, "Programmed", f"Applied to {', '.join(_some(name for name, _ in rows))}.")


def _some(names: Iterable[str]) -> Iterator[str]:
    found = sorted(names)
    yield from found[:_SHOWN]
    if len(found) > _SHOWN:
        yield f"{len(found) - _SHOWN} more"


def target_refs(look: Reader, key: ObjectKey) -> tuple[PolicyTargetReference, ...]:
    """The targets of an EnvoyPatch."""
    patch = find(look, EnvoyPatch, key)
    return patch.spec.target_refs if patch is not None else ()
