"""CustomResourceDefinitions of our own kinds, from the types that everything else judges objects by.

A CRD's schema is a "structural" one, a narrower thing than JSON Schema: no references, no unions but with null, a type
on every node (Kubernetes' documentation of CustomResourceDefinitions, "Specifying a structural schema"). What cannot be
said in it raises: an API server must not accept a kind with less than its types demand. Gateway API's kinds have CRDs
of their own and Kubernetes' kinds need none, so only `fairlead.dev` is dealt with here. One thing is left to our own
validation: a structural schema has no word for the keys of a map.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from mesh.kinds import FAIRLEAD_V1ALPHA1, KINDS, Kind, json_schema
from mesh.kinds.meta import JSON

Words = Mapping[tuple[str, str], str]
"""What a field means, by the name of its struct and its own; for `kubectl explain`."""

CATEGORY = "fairlead"
"""`kubectl get fairlead` lists the objects of all our kinds."""

_INT32 = 2**31 - 1


class Column(msgspec.Struct, frozen=True):
    """A column of `kubectl get`; one of priority 1 is shown with `-o wide` only."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0


_AGE = Column("Age", ".metadata.creationTimestamp", "date")
_ACCEPTED = Column("Accepted", '.status.conditions[?(@.type=="Accepted")].status')
_RESOLVED = Column("Resolved", '.status.conditions[?(@.type=="ResolvedRefs")].status')
_WHY = Column("Why", '.status.conditions[?(@.status=="False")].message', priority=1)

_COLUMNS: Mapping[str, tuple[Column, ...]] = MappingProxyType(
    {
        "GatewayParameters": (
            Column("Replicas", ".spec.replicas", "integer"),
            Column("Type", ".spec.serviceType"),
            Column("Image", ".spec.envoyImage", priority=1),
            _ACCEPTED,
        ),
        "Rollout": (
            Column("Phase", ".status.rollout.phase"),
            Column("Step", ".status.rollout.step", "integer"),
            Column("Weight", ".status.rollout.weight", "integer"),
            Column("Said", ".status.rollout.message", priority=1),
            _ACCEPTED,
        ),
        "Service": (Column("Port", ".spec.ports[0].port", "integer"), _ACCEPTED),
        "ServiceSubset": (Column("Service", ".spec.service"), _ACCEPTED, _RESOLVED),
    }
)

# How lists merge where two appliers share an object. Any other list is one value: who applies it owns it whole.
_LISTS: Mapping[tuple[str, str], JSON] = MappingProxyType(
    {
        ("ServiceSpec", "ports"): {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"]},
        ("ServiceSpec", "exportTo"): {"x-kubernetes-list-type": "set"},
    }
)

# Kubernetes' own Service has `svc`, and its kinds win in kubectl.
_SHORT_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType({"Service": ("flsvc",)})

_ENVELOPE: JSON = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
_CONDITION: JSON = {
    "type": "object",
    "description": "One fact about the object, whether it holds, and why.",
    "required": ["type", "status", "lastTransitionTime", "reason", "message"],
    "properties": {
        "type": {"type": "string", "maxLength": 316},
        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
        "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
        "lastTransitionTime": {"type": "string", "format": "date-time"},
        "reason": {"type": "string", "minLength": 1, "maxLength": 1024},
        "message": {"type": "string", "maxLength": 32768},
    },
}
_STATUS: JSON = {
    "type": "object",
    "description": "What Fairlead makes of the object; written by Fairlead.",
    "properties": {
        "conditions": {
            "type": "array",
            "description": "Facts about the object, one of each type.",
            "items": _CONDITION,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
        "shadowed": {
            "type": "array",
            "description": "Declarations of the same object elsewhere, which do not count beside this one.",
            "items": {"type": "string"},
            "x-kubernetes-list-type": "atomic",
        },
    },
}
# How far a Rollout has come; whoever leads next reads it there, so an API server must drop nothing of it.
_ROLLOUT: JSON = {
    "type": "object",
    "description": "How far it has come; written and read by Fairlead.",
    "x-kubernetes-preserve-unknown-fields": True,
}


class SchemaError(TypeError):
    """A type that a CRD cannot express, and where it stands."""


def our_kinds() -> Iterator[Kind]:
    """The kinds that get a CRD."""
    return (kind for kind in KINDS.values() if kind.api_version == FAIRLEAD_V1ALPHA1)


def definition(kind: Kind, words: Words) -> JSON:
    """The CustomResourceDefinition of a kind.

    Raises:
        SchemaError: one of its types cannot be said in a structural schema.
    """
    short_names = _SHORT_NAMES.get(kind.name, kind.short_names)
    columns = (*_COLUMNS.get(kind.name, (_ACCEPTED,)), _WHY, _AGE)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}", "labels": {"app.kubernetes.io/part-of": "fairlead"}},
        "spec": {
            "group": kind.group,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                **({"shortNames": list(short_names)} if short_names else {}),
                "categories": [CATEGORY],
            },
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [
                {
                    "name": kind.api_version.rpartition("/")[2],
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": structural_schema(kind, words)},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(column) for column in columns],
                }
            ],
        },
    }


def structural_schema(kind: Kind, words: Words) -> JSON:
    """The schema of a kind's objects as an API server checks them; `metadata` is the server's own affair.

    Raises:
        SchemaError: one of its types cannot be said in a structural schema.
    """
    document = json_schema(kind.name)
    schema = _Maker(document["$defs"], words).node(document, kind.name, ())
    return {
        "type": "object",
        "description": schema["description"],
        "required": [name for name in schema["required"] if name not in _ENVELOPE],
        "properties": {**_ENVELOPE, **schema["properties"], "status": _status(kind)},
    }


def _status(kind: Kind) -> JSON:
    if kind.name != "Rollout":
        return _STATUS
    return {**_STATUS, "properties": {**_STATUS["properties"], "rollout": _ROLLOUT}}


def _column(column: Column) -> JSON:
    shown: JSON = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return shown | ({"priority": column.priority} if column.priority else {})


class _Maker:
    """Turns the nodes of one kind's JSON Schema into structural ones."""

    def __init__(self, definitions: JSON, words: Words) -> None:
        self._definitions = definitions
        self._words = words

    def node(self, schema: JSON, path: str, within: tuple[str, ...]) -> JSON:
        """The structural form of a node at `path`; `within` are the definitions that it stands in."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            if name in within:
                raise SchemaError(f"{path}: {name} contains itself; a CRD cannot say so")
            return self._beside(schema, self.node(self._definitions[name], path, (*within, name)))
        if "anyOf" in schema:
            return self._beside(schema, self._union(schema["anyOf"], path, within))
        if "enum" in schema:
            return self._beside(schema, {"type": _type_of(schema["enum"], path), "enum": list(schema["enum"])})
        match schema.get("type"):
            case "object":
                return self._object(schema, path, within)
            case "array":
                made: JSON = {"type": "array", "items": self.node(_items(schema, path), f"{path}[]", within)}
                return self._beside(schema, made | _kept(schema, "minItems", "maxItems"))
            case "string":
                return self._beside(schema, {"type": "string"} | _kept(schema, "minLength", "maxLength", "pattern"))
            case "integer":
                size = "int32" if schema.get("maximum", _INT32 + 1) <= _INT32 else "int64"
                made = {"type": "integer", "format": size} | _kept(schema, "minimum", "maximum")
                return self._beside(schema, made)
            case "number":
                return self._beside(schema, {"type": "number"} | _kept(schema, "minimum", "maximum"))
            case "boolean":
                return self._beside(schema, {"type": "boolean"})
            case None if not schema.keys() - {"default", "description", "title", "examples"}:
                return self._beside(schema, {"x-kubernetes-preserve-unknown-fields": True})
        raise SchemaError(f"{path}: a CRD cannot say {schema}")

    def _union(self, members: list[JSON], path: str, within: tuple[str, ...]) -> JSON:
        real = [member for member in members if member != {"type": "null"}]
        nullable = {"nullable": True} if len(real) < len(members) else {}
        if sorted(member.get("type", "") for member in real) == ["integer", "string"]:
            return {"x-kubernetes-int-or-string": True, **nullable}
        if len(real) != 1:
            raise SchemaError(f"{path}: a CRD cannot say that a value is one of {len(real)} types; make them fields")
        return self.node(real[0], path, within) | nullable

    def _object(self, schema: JSON, path: str, within: tuple[str, ...]) -> JSON:
        made: JSON = {"type": "object"}
        if "properties" in schema:
            # Unknown fields need no word: an API server drops them, or refuses them when asked to be strict.
            made["properties"] = {
                name: self._field(schema.get("title", ""), name, value, f"{path}.{name}", within)
                for name, value in schema["properties"].items()
                if within[1:] or name not in _ENVELOPE
            }
            made |= _kept(schema, "required")
        elif isinstance(schema.get("additionalProperties"), dict):
            made["additionalProperties"] = self.node(schema["additionalProperties"], f"{path}.*", within)
        else:
            made["x-kubernetes-preserve-unknown-fields"] = True
        return self._beside(schema, made | _kept(schema, "minProperties", "maxProperties"))

    def _field(self, struct: str, name: str, schema: JSON, path: str, within: tuple[str, ...]) -> JSON:
        made = self.node(schema, path, within)
        if words := self._words.get((struct, name)):
            made["description"] = f"{words[0].upper()}{words[1:].rstrip('.')}."
        if made.get("type") == "array":
            made |= _LISTS.get((struct, name), {"x-kubernetes-list-type": "atomic"})
        return made

    def _beside(self, schema: JSON, made: JSON) -> JSON:
        """What stands beside the type: words, and a default unless it is the same as nothing."""
        if text := schema.get("description"):
            made.setdefault("description", " ".join(str(text).split("\n\n")[0].split()))
        if schema.get("default") not in (None, "", [], {}):
            made["default"] = schema["default"]
        return made


def _items(schema: JSON, path: str) -> JSON:
    if not isinstance(schema.get("items"), dict):
        raise SchemaError(f"{path}: a CRD needs one type for all items of a list")
    return dict(schema["items"])


def _type_of(values: list[Any], path: str) -> str:
    for name, python in (("string", str), ("integer", int)):
        if all(type(value) is python for value in values):
            return name
    raise SchemaError(f"{path}: a CRD cannot say that a value is one of {values}")


def _kept(schema: JSON, *names: str) -> JSON:
    return {name: schema[name] for name in names if name in schema}
