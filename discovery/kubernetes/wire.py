"""What is read of Kubernetes' objects, and how list pages and watch lines become those objects.

A struct names the fields that are used and nothing else: everything else in an object is skipped while it is parsed,
which is most of the cost and memory of a Pod. Three rules of tolerance:
- an unknown field is no error, and `null` counts as absent (Go writes `null` for an empty list or map);
- a used field of another type than Kubernetes' API says makes that one object `Malformed`, never the page or the watch;
- bytes that are no JSON, or no list or watch event at all, raise `UnreadableError`: then nothing can be trusted.

The structs hold no cycles, so they opt out of the garbage collector. What objects mean is decided in `catalog.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Raw, field

Strings = dict[str, str]
EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]
AddressType = Literal["IPv4", "IPv6", "FQDN"]
PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]

EXPORT_TO = "fairlead.dev/export-to"
MESH_TLS = "fairlead.dev/mesh-tls"
"""The label of pods whose proxy has a workload's certificate: clients of the mesh speak mutual TLS to them."""
SERVICE_NAME = "kubernetes.io/service-name"
REGION = "topology.kubernetes.io/region"
ZONE = "topology.kubernetes.io/zone"


class UnreadableError(ValueError):
    """Bytes that are no answer of Kubernetes' API: cut off, or from something else that answered in its place."""


class Key(NamedTuple):
    """The name of an object of a known kind; `namespace` is empty for cluster-scoped kinds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """As people write it: `namespace/name`, or the name alone."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Wire(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """Base of what is read: camelCase names, unknown fields skipped."""


class Meta(Wire, frozen=True, gc=False):
    """What every object has."""

    name: str
    namespace: str = ""
    resource_version: str = ""

    @property
    def key(self) -> Key:
        """The object's name."""
        return Key(self.namespace, self.name)


# -- services


class ServiceAnnotations(Wire, frozen=True, gc=False):
    """The annotations of ours that a Service may carry."""

    export_to: str | None = field(default=None, name=EXPORT_TO)


class ServiceMeta(Meta, frozen=True, gc=False):
    """Metadata of a Service."""

    labels: Strings | None = None
    annotations: ServiceAnnotations | None = None


class ServicePort(Wire, frozen=True, gc=False):
    """A port that clients name. Its `targetPort` is not read: EndpointSlices carry the numbers."""

    port: PortNumber
    name: str | None = None
    protocol: str | None = None
    app_protocol: str | None = None


class ServiceSpec(Wire, frozen=True, gc=False):
    """`ip_families` has the family of the first clusterIP first."""

    type: str | None = None
    ports: list[ServicePort] | None = None
    external_name: str | None = None
    ip_families: list[str] | None = None


class Service(Wire, frozen=True, gc=False):
    """`v1` Service."""

    metadata: ServiceMeta
    spec: ServiceSpec | None = None


# -- endpoint slices


class SliceLabels(Wire, frozen=True, gc=False):
    """The label that says whose endpoints they are."""

    service_name: str | None = field(default=None, name=SERVICE_NAME)


class SliceMeta(Meta, frozen=True, gc=False):
    """Metadata of an EndpointSlice."""

    labels: SliceLabels | None = None


class Conditions(Wire, frozen=True, gc=False):
    """Kubernetes reads an absent `ready` as true, `serving` as `ready`, and `terminating` as false."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class TargetRef(Wire, frozen=True, gc=False):
    """What stands behind an endpoint; a Pod of the slice's own namespace, or nothing that we know."""

    kind: str | None = None
    name: str | None = None


class ForZone(Wire, frozen=True, gc=False):
    """A zone whose clients an endpoint is meant for."""

    name: str | None = None


class ForNode(Wire, frozen=True, gc=False):
    """A node whose clients an endpoint is meant for."""

    name: str | None = None


class Hints(Wire, frozen=True, gc=False):
    """Whom an endpoint is meant for."""

    for_zones: list[ForZone] | None = None
    for_nodes: list[ForNode] | None = None


class Endpoint(Wire, frozen=True, gc=False):
    """One instance."""

    addresses: list[str] | None = None
    conditions: Conditions | None = None
    target_ref: TargetRef | None = None
    node_name: str | None = None
    zone: str | None = None
    hints: Hints | None = None


class SlicePort(Wire, frozen=True, gc=False):
    """A port by the Service port's name; without a number it means "all ports", which names none to send to."""

    name: str | None = None
    port: PortNumber | None = None
    protocol: str | None = None


class EndpointSlice(Wire, frozen=True, gc=False):
    """`discovery.k8s.io/v1` EndpointSlice."""

    metadata: SliceMeta
    address_type: AddressType
    endpoints: list[Endpoint] | None = None
    ports: list[SlicePort] | None = None


# -- workloads and places


class PodMeta(Meta, frozen=True, gc=False):
    """Metadata of a Pod."""

    labels: Strings | None = None


class PodSpec(Wire, frozen=True, gc=False):
    """The account is a Pod's identity."""

    service_account_name: str | None = None


class Pod(Wire, frozen=True, gc=False):
    """`v1` Pod."""

    metadata: PodMeta
    spec: PodSpec | None = None


class NodeLabels(Wire, frozen=True, gc=False):
    """The well-known labels that say where a Node is."""

    region: str | None = field(default=None, name=REGION)
    zone: str | None = field(default=None, name=ZONE)


class NodeMeta(Meta, frozen=True, gc=False):
    """Metadata of a Node."""

    labels: NodeLabels | None = None


class Node(Wire, frozen=True, gc=False):
    """`v1` Node."""

    metadata: NodeMeta


# -- what config objects refer to


class Secret(Wire, frozen=True, gc=False):
    """`v1` Secret; values are base64, as in Kubernetes."""

    metadata: Meta
    type: str | None = None
    data: Strings | None = None

    def __repr__(self) -> str:
        """Keep the keys out of logs and tracebacks."""
        return f"Secret({self.metadata.key}, type={self.type!r}, data=[redacted])"


class ConfigMap(Wire, frozen=True, gc=False):
    """`v1` ConfigMap."""

    metadata: Meta
    data: Strings | None = None


class NamespaceMeta(Meta, frozen=True, gc=False):
    """Metadata of a Namespace."""

    labels: Strings | None = None


class Namespace(Wire, frozen=True, gc=False):
    """`v1` Namespace."""

    metadata: NamespaceMeta


# -- envelopes

T = TypeVar("T")


class Malformed(msgspec.Struct, frozen=True):
    """An object that is not what its kind's API says: what is wrong, and at which field. The key may be empty."""

    key: Key
    message: str
    path: str = ""
    resource_version: str = ""


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of a list. `token` asks for the next page; it is empty on the last."""

    items: tuple[T, ...]
    malformed: tuple[Malformed, ...]
    resource_version: str
    token: str
    remaining: int


class Failure(Wire, frozen=True, gc=False):
    """The `Status` object that a watch ends with: `code` 410 asks for a new list."""

    code: int = 0
    reason: str = ""
    message: str = ""


class Event(msgspec.Struct, Generic[T], frozen=True):
    """One line of a watch: an `object`, or what is `malformed` about it.

    A bookmark has the `resource_version` only, an error the `failure` only. A malformed object that is DELETED is gone
    all the same: its key is in `malformed`.
    """

    type: EventType
    resource_version: str = ""
    object: T | None = None
    malformed: Malformed | None = None
    failure: Failure | None = None


class Reader(Generic[T]):
    """Reads list pages and watch lines of one kind.

    `kind` is one of the structs above, or `dict[str, Any]` for objects that are read whole (custom resources). Safe to
    use from several threads.
    """

    __slots__ = ("_item", "_page")

    def __init__(self, kind: type[T]) -> None:
        self._item: msgspec.json.Decoder[T] = msgspec.json.Decoder(kind)
        self._page: msgspec.json.Decoder[_List[T]] = msgspec.json.Decoder(_List[kind])  # type: ignore[valid-type]

    def page(self, body: bytes) -> Page[T]:
        """A page of a list; objects keep the server's order.

        Raises:
            UnreadableError: the body is no list of Kubernetes.
        """
        try:
            page = self._page.decode(body)
        except _ERRORS:
            return self._page_one_by_one(body)
        return _made(page.metadata, tuple(page.items or ()), ())

    def object(self, body: bytes) -> T | Malformed:
        """A single object, as a GET answers it.

        Raises:
            UnreadableError: the body is no JSON.
        """
        try:
            return self._item.decode(body)
        except msgspec.ValidationError as error:
            return _malformed(body, error)
        except _ERRORS as error:
            raise UnreadableError(f"the API server's answer is no JSON object: {error}") from error

    def event(self, line: bytes) -> Event[T]:
        """A line of a watch.

        Raises:
            UnreadableError: the line is no watch event.
        """
        try:
            envelope = _ENVELOPE.decode(line)
            if envelope.type == "ERROR":
                return Event("ERROR", failure=_failure(envelope.object))
            version = _head(envelope.object).resource_version
            if envelope.type == "BOOKMARK":
                return Event("BOOKMARK", version)
        except _ERRORS as error:
            raise UnreadableError(f"a line of a watch is no event of Kubernetes: {error}") from error
        found = self.object(bytes(envelope.object))
        if isinstance(found, Malformed):
            return Event(envelope.type, version, malformed=found)
        return Event(envelope.type, version, found)

    def _page_one_by_one(self, body: bytes) -> Page[T]:
        """A page of which some object is not as it should be: each is judged alone."""
        try:
            page = _RAW_LIST.decode(body)
            found = [self.object(bytes(raw)) for raw in page.items or ()]
        except _ERRORS as error:
            raise UnreadableError(f"the API server's answer is no list of Kubernetes: {error}") from error
        good = tuple(item for item in found if not isinstance(item, Malformed))
        return _made(page.metadata, good, tuple(item for item in found if isinstance(item, Malformed)))


# Invalid UTF-8 and nesting without end are no `DecodeError`.
_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _ListMeta(Wire, frozen=True, gc=False):
    resource_version: str
    token: str | None = field(default=None, name="continue")
    remaining: int | None = field(default=None, name="remainingItemCount")


class _List(msgspec.Struct, Generic[T], frozen=True, gc=False):
    metadata: _ListMeta
    items: list[T] | None


class _Envelope(msgspec.Struct, frozen=True, gc=False):
    type: EventType
    object: Raw


class _HeadMeta(Wire, frozen=True, gc=False):
    """What names an object, of whatever type its fields turn out to be."""

    name: Any = ""
    namespace: Any = ""
    resource_version: Any = ""


class _Head(Wire, frozen=True, gc=False):
    metadata: _HeadMeta | None = None


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_HEAD = msgspec.json.Decoder(_Head)
_FAILURE = msgspec.json.Decoder(Failure)
_RAW_LIST = msgspec.json.Decoder(_List[Raw])
_NO_META = Meta("")


def _made(meta: _ListMeta, items: tuple[T, ...], malformed: tuple[Malformed, ...]) -> Page[T]:
    return Page(items, malformed, meta.resource_version, meta.token or "", meta.remaining or 0)


def _head(body: bytes | Raw) -> Meta:
    """The names in an object of any shape; what is no string counts as empty."""
    try:
        meta = _HEAD.decode(body).metadata
    except msgspec.ValidationError:
        return _NO_META
    if meta is None:
        return _NO_META
    name, namespace, version = (
        text if isinstance(text, str) else "" for text in (meta.name, meta.namespace, meta.resource_version)
    )
    return Meta(name, namespace, version)


def _malformed(body: bytes, error: msgspec.ValidationError) -> Malformed:
    head = _head(body)
    # msgspec says: Expected `int`, got `str` - at `$.spec.ports[0].port`
    message, _, path = str(error).partition(" - at `$")
    return Malformed(head.key, message, path.removesuffix("`").removeprefix("."), head.resource_version)


def _failure(body: Raw) -> Failure:
    try:
        return _FAILURE.decode(body)
    except msgspec.ValidationError:
        return Failure(message="the API server gave no reason that can be read")
