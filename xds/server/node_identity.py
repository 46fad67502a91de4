"""Who a proxy says it is: `node.id` and `node.metadata.fairlead` → the audience it belongs to.

`node.id` is `gateway|sidecar|grpc~<namespace>~<name>~<instance>`; the metadata holds `kind`, `namespace`, `name`,
`service`, `agent` (one beside it gives it a workload's certificate), and for sidecars `port`, `ingress_port`,
`egress_port` and `upstreams` (texts, see `mesh/upstreams.py`). Whether it may say so is for `authentication`.
Anybody may send anything here, and what is kept of it is kept for as long as the stream lives, becomes part of names
and is written to logs; so everything has a form and a size.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from mesh.model import Audience, Upstream
from mesh.upstreams import FORM, MOST, read_upstream
from xds.schema.extensions import lacking
from xds.schema.types import Node

_KINDS: Final = ("gateway", "sidecar", "grpc")
# RFC 1123 labels and dots, as Kubernetes names are; an instance may be anything printable.
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_NAME_LENGTH: Final = 253
_ID_LENGTH: Final = 1_024
# Bytes of what is kept of a node; an Envoy's has some hundreds.
_NODE_BYTES: Final = 8_192
# What `node.metadata.fairlead` may say; nothing else of it is kept.
_PORTS: Final = ("port", "ingress_port", "egress_port")
_CLAIMS: Final = ("kind", "namespace", "name", "service", "service_account", *_PORTS, "agent", "upstreams")
_FORM: Final = "gateway|sidecar|grpc~<namespace>~<name>~<instance>"


class InvalidNodeError(Exception):
    """A node that says nothing usable about itself; the text says what is wrong and what is expected."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy as it introduced itself. `version` is Envoy's ("1.40.0"), empty for what is not Envoy.

    `lacks` are types of configuration that we make and it has no extension for.
    """

    node_id: str
    audience: Audience
    service_account: str = ""
    version: str = ""
    lacks: frozenset[str] = frozenset()
    node: Any = field(default=None, compare=False, repr=False)


def identify(node: Any, *, sotw: bool = False) -> Proxy:
    """The proxy behind a `Node` message; `sotw` tells that it speaks state-of-the-world, which no node says of itself.

    Raises `InvalidNodeError`.
    """
    node_id: str = node.id
    if not node_id:
        raise InvalidNodeError(f"node.id is missing: it must be {_FORM}")
    parts = node_id.split("~")
    if len(node_id) > _ID_LENGTH or len(parts) != 4 or parts[0] not in _KINDS or not parts[3]:
        raise InvalidNodeError(f"node.id is {node_id[:200]!r}; it must be {_FORM}")
    kind, namespace, name, _ = parts
    for what, value in (("namespace", namespace), ("name", name)):
        if not _NAME.fullmatch(value):
            raise InvalidNodeError(f"the {what} in node.id is {value[:200]!r}, which is not a Kubernetes name")
    if not node_id.isprintable():
        raise InvalidNodeError(f"node.id is {node_id[:200]!r}; control characters cannot be part of it")
    claims = _Claims(node.metadata)
    for what, value in (("kind", kind), ("namespace", namespace), ("name", name)):
        said = claims.text(what)
        if said and said != value:
            raise InvalidNodeError(f"node.metadata.fairlead.{what} is {said!r}, but node.id says {value!r}")
    return Proxy(
        node_id=node_id,
        audience=_audience(kind, namespace, name, claims, sotw=sotw, zone=_zone(node)),
        service_account=claims.text("service_account"),
        version=_version(node),
        lacks=lacking(node),
        node=_slim(node),
    )


def _zone(node: Any) -> str:
    zone: str = node.locality.zone
    if len(zone) > _NAME_LENGTH or not zone.isprintable():
        shown = f"{zone[:200]!r}{'…' if len(zone) > 200 else ''}"
        raise InvalidNodeError(f"node.locality.zone is {shown}: at most {_NAME_LENGTH} printable characters are taken")
    return zone


def _audience(kind: str, namespace: str, name: str, claims: _Claims, *, sotw: bool, zone: str) -> Audience:
    if kind == "grpc":
        return Audience("grpc", namespace, zone=zone)
    if kind == "gateway":
        return Audience("gateway", namespace, name, sotw=sotw, zone=zone, mesh_tls=claims.flag("agent"))
    service = claims.text("service") or name
    if not _NAME.fullmatch(service):
        raise InvalidNodeError(f"node.metadata.fairlead.service is {service!r}, which is not a Kubernetes name")
    return Audience(
        "sidecar",
        namespace,
        service,
        port=claims.port("port"),
        ingress_port=claims.port("ingress_port"),
        egress_port=claims.port("egress_port"),
        zone=zone,
        mesh_tls=claims.flag("agent"),
        upstreams=_upstreams(claims, namespace),
    )


def _upstreams(claims: _Claims, namespace: str) -> tuple[Upstream, ...]:
    found: dict[int, Upstream] = {}
    taken = {claims.port(name) for name in _PORTS} - {0}
    for text in claims.texts("upstreams", most=MOST):
        upstream = read_upstream(text, namespace)
        if upstream is None:
            raise InvalidNodeError(f"node.metadata.fairlead.upstreams holds {text[:200]!r}; each must be {FORM}")
        if upstream.listen in found or upstream.listen in taken:
            raise InvalidNodeError(f"node.metadata.fairlead.upstreams: two want to listen at port {upstream.listen}")
        found[upstream.listen] = upstream
    return tuple(upstream for _, upstream in sorted(found.items()))


class _Claims:
    """`node.metadata.fairlead`, read carefully: anybody may have written it."""

    def __init__(self, metadata: Any) -> None:
        value = metadata.fields["fairlead"] if "fairlead" in metadata.fields else None  # noqa: SIM401 - a proto map
        if value is not None and not value.HasField("struct_value"):
            raise InvalidNodeError("node.metadata.fairlead must be an object with kind, namespace, name and service")
        self._fields = value.struct_value.fields if value is not None else {}

    def text(self, name: str) -> str:
        if name not in self._fields:
            return ""
        value = self._fields[name]
        if not value.HasField("string_value"):
            raise InvalidNodeError(f"node.metadata.fairlead.{name} must be a string")
        text: str = value.string_value
        if len(text) > _NAME_LENGTH or not text.isprintable():
            shown = f"{text[:200]!r}{'…' if len(text) > 200 else ''}"
            raise InvalidNodeError(
                f"node.metadata.fairlead.{name} is {shown}: at most {_NAME_LENGTH} printable characters are taken"
            )
        return text

    def texts(self, name: str, *, most: int) -> tuple[str, ...]:
        if name not in self._fields:
            return ()
        value = self._fields[name]
        items = value.list_value.values if value.HasField("list_value") else ()
        if not value.HasField("list_value") or not all(item.HasField("string_value") for item in items):
            raise InvalidNodeError(f"node.metadata.fairlead.{name} must be a list of strings")
        if len(items) > most:
            raise InvalidNodeError(f"node.metadata.fairlead.{name} has {len(items)} entries; at most {most} are taken")
        return tuple(item.string_value for item in items)

    def flag(self, name: str) -> bool:
        if name not in self._fields:
            return False
        value = self._fields[name]
        if not value.HasField("bool_value"):
            raise InvalidNodeError(f"node.metadata.fairlead.{name} must be true or false")
        return bool(value.bool_value)

    def port(self, name: str) -> int:
        if name not in self._fields:
            return 0
        value = self._fields[name]
        number = value.number_value if value.HasField("number_value") else -1
        if value.HasField("string_value") and value.string_value.isdecimal() and len(value.string_value) <= 5:
            number = int(value.string_value)
        if not 0 <= number <= 65_535 or number != int(number):
            raise InvalidNodeError(f"node.metadata.fairlead.{name} must be a port number, from 0 to 65535")
        return int(number)


def _version(node: Any) -> str:
    """Envoy's version; empty where it is not told, and for other clients, whose numbers mean something else."""
    version = node.user_agent_build_version.version
    if node.user_agent_name not in ("", "envoy") or not version.ByteSize():
        return ""
    return f"{version.major_number}.{version.minor_number}.{version.patch}"


def _slim(node: Any) -> Any:
    """What is kept of a node, for status reports: who it is, where it runs and which Envoy it is.

    Envoy's list of extensions alone is 60 kB, and metadata may hold a whole pod.

    Raises `InvalidNodeError` when even that is large.
    """
    slim = Node()
    slim.id, slim.cluster = node.id, node.cluster
    slim.locality.CopyFrom(node.locality)
    slim.user_agent_name = node.user_agent_name
    slim.user_agent_build_version.version.CopyFrom(node.user_agent_build_version.version)
    if "fairlead" in node.metadata.fields:
        claims, kept = node.metadata.fields["fairlead"].struct_value.fields, slim.metadata.fields["fairlead"]
        kept.struct_value.SetInParent()
        for name in _CLAIMS:
            if name in claims:
                kept.struct_value.fields[name].CopyFrom(claims[name])
    size: int = slim.ByteSize()
    if size > _NODE_BYTES:
        raise InvalidNodeError(f"node has {size} bytes of names and locality; at most {_NODE_BYTES} are taken")
    return slim
