"""What the REST API needs from the program: the doors behind the people's door.

Owns the Protocols that `fairlead/` implements, the values they exchange, and the errors they may raise. The API knows
neither the store, nor the xDS server, nor a source: it sees `Config` (what users declare), `World` (what follows from
it and what the proxies say) and a parser for YAML.

    PortError
    ├── Conflict      the object is at another revision than the caller expected
    ├── Invalid       what was sent cannot be so
    ├── NotFound      no such object, revision, proxy
    ├── Refused       what is asked for may not be done now
    ├── TooLarge      the store never takes so much
    └── Unavailable   the store or a part of the program cannot answer now; says what to do
"""

# ruff: noqa: N818 - errors are named by what is true: `raise Conflict`

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from mesh.kinds.meta import Object
from mesh.model import ObjectKey, RolloutState
from mesh.problems import Problem
from mesh.registered import Registration, RegistrationKey
from mesh.rollout_machine import Command


class PortError(Exception):
    """Base of what the doors raise on purpose; the text is for the user."""


class Conflict(PortError):
    """The object is at revision `actual` (0: it does not exist), which is not what the caller expected."""

    def __init__(self, message: str, *, actual: int) -> None:
        super().__init__(message)
        self.actual = actual


class Invalid(PortError):
    """What was sent, named `what`, cannot be so; `problems` say which part."""

    def __init__(self, problems: Sequence[Problem], *, what: str) -> None:
        super().__init__(f"{what} is not valid")
        self.problems = tuple(problems)
        self.what = what


class NotFound(PortError):
    """There is no such thing."""


class Refused(PortError):
    """It may not be done as things are; says why and what may."""


class TooLarge(PortError):
    """The store never takes so much; nothing was changed. `fix` says what to do."""

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix


class Unavailable(PortError):
    """It cannot be done now; nothing was changed. `fix` says what to do."""

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix


class Item(msgspec.Struct, frozen=True):
    """An object as one source declares it.

    `source` is `kubernetes:<cluster>`, `store` or `files`; `location` is for people. `revision` is the store's, and 0
    for other sources, whose objects the API can read but not change. `created`: the write that answers with it found
    nothing in the store.
    """

    object: Object
    source: str
    revision: int = 0
    location: str = ""
    stale: bool = False
    created: bool = False


class Past(msgspec.Struct, frozen=True):
    """One revision in an object's history, at a time in RFC 3339, UTC.

    `object=None` is its deletion or, with `error`, a revision that cannot be read.
    """

    revision: int
    object: Object | None
    by: str
    at: str
    error: str = ""


class Parsed(msgspec.Struct, frozen=True):
    """The decoded documents of a YAML text, or the problems that kept it from being decoded."""

    values: tuple[Any, ...]
    problems: tuple[Problem, ...] = ()


YamlParser = Callable[[str], Parsed]


class Config(Protocol):
    """What users declare: the store, which the API writes, and beside it what the other sources say."""

    async def get(self, key: ObjectKey) -> Item | None:
        """The object in the store. Reads what was written: a `put` that was answered is seen."""
        ...

    async def list(self, kind: str, namespace: str | None) -> Sequence[Item]:
        """The store's objects of a kind, sorted by namespace and name; `namespace=None` means all."""
        ...

    async def put(self, object: Object, *, expected: int | None, by: str) -> Item:  # noqa: A002 - the field's noun
        """Write durably. `expected`: None any, 0 must not exist, else that revision.

        Raises Conflict, TooLarge, Unavailable.
        """
        ...

    async def delete(self, key: ObjectKey, *, expected: int | None, by: str) -> int:
        """Remove durably; the revision of the removal. Raises Conflict, NotFound, Unavailable."""
        ...

    async def history(self, key: ObjectKey, *, limit: int) -> Sequence[Past]:
        """The newest `limit` revisions of an object, newest first; empty when the store never knew it."""
        ...

    async def past(self, key: ObjectKey, revision: int) -> Past | None:
        """One revision of an object."""
        ...

    def others(self, key: ObjectKey) -> Sequence[Item]:
        """What sources other than the store declare under this key, Kubernetes before files."""
        ...

    def others_of_kind(self, kind: str, namespace: str | None) -> Sequence[Item]:
        """The same for a whole kind."""
        ...


class ServiceView(msgspec.Struct, frozen=True, rename="camel"):
    """A service of the mesh as discovery knows it, for people."""

    namespace: str
    name: str
    ports: tuple[Mapping[str, Any], ...]  # {name, port, protocol}
    sources: tuple[str, ...]
    endpoints: int
    healthy: int
    labels: Mapping[str, str] = {}
    export_to: tuple[str, ...] = ()
    stale: bool = False


class EndpointView(msgspec.Struct, frozen=True, rename="camel"):
    """One endpoint of a service, for people."""

    namespace: str
    service: str
    address: str
    ports: Mapping[str, int]
    health: str
    weight: int
    labels: Mapping[str, str] = {}
    region: str = ""
    zone: str = ""
    sub_zone: str = ""
    priority: int = 0


class TypeView(msgspec.Struct, frozen=True, rename="camel"):
    """What a proxy holds of one xDS type. `rejected` is the proxy's own words, empty when nothing is rejected.

    `left_out` are resources that it is not sent, being too old for them: name → the fields that it does not know.
    """

    status: Literal["SYNCED", "STALE", "ERROR", "NOT_SENT"]
    sent: int = 0
    acked: int = 0
    version: str = ""
    rejected: str = ""
    left_out: Mapping[str, Sequence[str]] = {}


class ProxyView(msgspec.Struct, frozen=True, rename="camel"):
    """A connected proxy. `types` is keyed by short name (`CDS`, `EDS`, …); `connected_since` is RFC 3339 in UTC.

    `lacks` are the extensions (types of their configuration) that it was built without and that policies can need.
    """

    node: str
    kind: str
    namespace: str
    name: str
    connected_since: str
    types: Mapping[str, TypeView]
    protocol: Literal["delta", "sotw"] = "delta"
    version: str = ""
    lacks: Sequence[str] = ()


class ProxyDetail(msgspec.Struct, frozen=True, rename="camel"):
    """A proxy with the resources it should hold: per short type name, rows of name, version and whether it is ACKed."""

    proxy: ProxyView
    resources: Mapping[str, Sequence[Mapping[str, Any]]]


class Distribution(msgspec.Struct, frozen=True, rename="camel"):
    """How far the present revision of an object has come. `done` when every affected proxy has ACKed all of it.

    `pending` and `rejected` name nodes; a rejection carries Envoy's words. `limits` are sentences on what some of the
    affected proxies cannot do of it, though they have it.
    """

    revision: int
    done: bool
    affected: int
    acked: int
    pending: tuple[str, ...] = ()
    rejected: Mapping[str, str] = {}
    resources: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()


class Question(msgspec.Struct, frozen=True):
    """A request to explain. `gateway` is `namespace/name`, empty for every gateway."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    gateway: str = ""


class SourceProblem(msgspec.Struct, frozen=True, rename="camel"):
    """What is wrong in a source: a file that does not parse, a row that cannot be read, a source that is away."""

    source: str
    problem: Problem


class Readiness(msgspec.Struct, frozen=True):
    """Whether proxies may be served, and what is waited for when not."""

    ready: bool
    waiting_for: tuple[str, ...] = ()


class World(Protocol):
    """What follows from the configuration, and what the proxies say. All reads are of memory and do not block."""

    def status(self, key: ObjectKey) -> Mapping[str, Any] | None:
        """The wire form of an object's `status`, or None while there is none."""
        ...

    def services(self) -> Sequence[ServiceView]:
        """Every service of the mesh, sorted."""
        ...

    def endpoints(self, namespace: str | None, service: str | None) -> Sequence[EndpointView]:
        """Endpoints, sorted; None means any."""
        ...

    def proxies(self) -> Sequence[ProxyView]:
        """Every connected proxy, sorted by node."""
        ...

    def proxy(self, node: str) -> ProxyDetail | None:
        """One proxy."""
        ...

    def distribution(self, key: ObjectKey) -> Distribution | None:
        """How far an object has come; None while the object is not (yet) known to the model."""
        ...

    def effective_policies(self) -> Sequence[Mapping[str, Any]]:
        """What policies say of each target that one reaches, merged, and for each field which object said so."""
        ...

    def authorizations(self, caller: tuple[str, str] | None) -> Sequence[Mapping[str, Any]]:
        """Who may call which service, as platforms tell it, sorted; of one `caller` (namespace, name) what decides."""
        ...

    def explain(self, question: Question) -> Mapping[str, Any]:
        """Where a request would go and why; raises NotFound for an unknown gateway, ValueError for a bad URL."""
        ...

    def load_reports(self) -> Sequence[Mapping[str, Any]]:
        """What the proxies last reported of load per cluster (LRS)."""
        ...

    def problems(self) -> Sequence[SourceProblem]:
        """What is wrong in the sources now."""
        ...

    def readiness(self) -> Readiness:
        """Whether every source has synced and the first build is done."""
        ...

    def metrics(self) -> tuple[bytes, str]:
        """The Prometheus page and its content type."""
        ...


class RegistrationView(msgspec.Struct, frozen=True, rename="camel"):
    """An instance that registered itself. `known`: some source tells of its service and of a port that it serves."""

    namespace: str
    service: str
    id: str
    registration: Registration
    expires_in_seconds: float
    known: bool
    created: bool = False


class Registrations(Protocol):
    """The instances that register themselves, each for as long as it is heard from.

    All raise Unavailable where they are kept elsewhere and that does not answer.
    """

    async def all(self) -> Sequence[RegistrationView]:
        """Every one, sorted."""
        ...

    async def get(self, key: RegistrationKey) -> RegistrationView | None:
        """One of them."""
        ...

    async def put(self, key: RegistrationKey, registration: Registration) -> RegistrationView:
        """Register it, or note that it is alive.

        Raises Refused where there are too many or it is somebody else's, Invalid for what cannot be kept.
        """
        ...

    async def delete(self, key: RegistrationKey) -> bool:
        """Let it leave; False if it was not there."""
        ...


class Rollouts(Protocol):
    """What moves Rollouts."""

    async def order(self, key: ObjectKey, command: Command) -> RolloutState:
        """Follow a person's command, to this state. Raises NotFound, Refused, Unavailable."""
        ...


class CertificateAuthority(Protocol):
    """The authority that signs workloads' certificates: what it is, and the steps of its rotation.

    All raise NotFound where there is none, or where another program has it and we only ask it; steps raise Refused and
    Unavailable. A step answers with the authority that it was about, as `status` shows it.
    """

    def status(self) -> Mapping[str, Any]:
        """The authorities with their states, what a prepared one waits for, and what ends soon."""
        ...

    def bundle(self) -> bytes:
        """What to trust, as SPIFFE's JWK Set."""
        ...

    def compare(self) -> Sequence[Mapping[str, Any]]:
        """Of each connected proxy whether it trusts what it should, sorted by node."""
        ...

    def federation(self) -> Sequence[Mapping[str, Any]]:
        """The other trust domains that are believed in what is theirs, sorted; also where we have no authority."""
        ...

    async def refresh(self, trust_domain: str) -> Mapping[str, Any]:
        """Fetch the bundle of one of them now. Raises NotFound, Unavailable."""
        ...

    async def join_token(self, namespace: str, account: str, ttl: float) -> Mapping[str, Any]:
        """A token with which an agent gets its first certificate, as that service account; good once, `ttl` seconds."""
        ...

    async def request(self) -> str:
        """A certificate request (PEM) for an offline root to sign."""
        ...

    async def prepare(self, chain: str) -> Mapping[str, Any]:
        """Spread a new authority: from an offline root's chain (PEM), or where that is empty one that signs itself."""
        ...

    async def activate(self, name: str, *, override: bool, by: str) -> Mapping[str, Any]:
        """Let it sign as soon as every proxy trusts it, or at once."""
        ...

    async def taint(self, name: str, *, by: str) -> Mapping[str, Any]:
        """Have what it signed replaced."""
        ...

    async def revoke(self, name: str, *, override: bool, by: str) -> Mapping[str, Any]:
        """Trust it no more."""
        ...
