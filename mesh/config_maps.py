"""Entries of ConfigMaps that policies refer to; always of the policy's own namespace."""

from __future__ import annotations

from mesh.certificates import entry
from mesh.kinds.configmap import ConfigMap
from mesh.kinds.extensions import ConfigMapEntry
from mesh.model import ObjectKey
from mesh.objects import find
from mesh.tables import Reader


def config_map_entry(look: Reader, namespace: str, wanted: ConfigMapEntry) -> bytes | str:
    """The bytes of an entry, or why they cannot be had, as a sentence without its full stop."""
    found = find(look, ConfigMap, ObjectKey("ConfigMap", namespace, wanted.name))
    if found is None:
        return f"ConfigMap {namespace}/{wanted.name} does not exist"
    held = entry(found.binary_data, found.data, wanted.key)
    if held is None:
        known = ", ".join(sorted({*found.data, *found.binary_data})[:8]) or "nothing"
        return f"ConfigMap {namespace}/{wanted.name} has no entry {wanted.key}; it has: {known}"
    return held
