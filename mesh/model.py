"""The rows that sources write and that everything else is derived from: services, endpoints, declared objects.

Owns the keys by which the model names things, and the input tables. It must not know a platform: an adapter in
`discovery/` turns its platform's news into these rows, and what they mean to Envoy is decided in `xds/translate`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from mesh.kinds.meta import Object
from mesh.tables import Input, Reader

Protocol = Literal["HTTP", "HTTP2", "GRPC", "TCP", "TLS", "UDP"]
HTTP2_PROTOCOLS: frozenset[Protocol] = frozenset({"HTTP2", "GRPC"})
Health = Literal["Healthy", "Degraded", "Draining", "Unhealthy", "Unknown"]


class ObjectKey(NamedTuple):
    """The name of a config object, whatever source it came from; `namespace` is empty for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """As people write it: `HTTPRoute default/reviews`."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class DeclaredKey(NamedTuple):
    """A config object as one source declares it. `source` is `kubernetes:<cluster>`, `store` or `files`."""

    kind: str
    namespace: str
    name: str
    source: str


class Declared(msgspec.Struct, frozen=True):
    """An object and where it came from: `location` is for people (`routes/reviews.yaml:14`, `store@7`)."""

    object: Object
    location: str = ""
    stale: bool = False


class ServiceKey(NamedTuple):
    """A service of the mesh. The same namespace and name is the same service, from whatever source."""

    namespace: str
    name: str


class ServicePort(msgspec.Struct, frozen=True):
    """A port that clients name; endpoints say per port name at which number they serve it."""

    name: str
    port: int
    protocol: Protocol = "TCP"

    @property
    def udp(self) -> bool:
        """Whether the port is one of UDP: those of TCP and of UDP are numbered apart."""
        return self.protocol == "UDP"


class Locality(NamedTuple):
    """Where an endpoint runs, as Envoy's `core.v3.Locality`."""

    region: str = ""
    zone: str = ""
    sub_zone: str = ""


class Endpoint(msgspec.Struct, frozen=True, order=True):
    """One instance of a service. `ports` maps port names to numbers, as sorted pairs.

    `for_zones` are the zones whose clients it is meant for first, and `for_nodes` the nodes, both sorted; empty for all
    (`mesh.nearness`).
    """

    address: str
    ports: tuple[tuple[str, int], ...]
    labels: tuple[tuple[str, str], ...] = ()
    weight: int = 1
    locality: Locality = Locality()
    health: Health = "Unknown"
    priority: int = 0
    service_account: str = ""
    mesh_tls: bool = False
    for_zones: tuple[str, ...] = ()
    for_nodes: tuple[str, ...] = ()


class DiscoveredServiceKey(NamedTuple):
    """A service as one source tells of it."""

    source: str
    namespace: str
    name: str


class DiscoveredService(msgspec.Struct, frozen=True):
    """What a platform knows of a service beside its endpoints."""

    ports: tuple[ServicePort, ...]
    labels: tuple[tuple[str, str], ...] = ()
    export_to: tuple[str, ...] = ()
    external_name: str = ""
    stale: bool = False


class DiscoveredEndpointsKey(NamedTuple):
    """A part of a service's endpoints, as a platform splits them (an EndpointSlice, a Consul service)."""

    source: str
    namespace: str
    service: str
    part: str


class DiscoveredEndpoints(msgspec.Struct, frozen=True):
    """The endpoints of one part, sorted."""

    endpoints: tuple[Endpoint, ...]
    stale: bool = False


class Upstream(NamedTuple):
    """A TCP port of a service that a sidecar's workload finds on loopback, at the port `listen`."""

    listen: int
    namespace: str
    service: str
    port: int


class Audience(NamedTuple):
    """Proxies that must see the same thing: replicas of a gateway, sidecars of a workload, gRPC clients of a namespace.

    `kind` is `gateway`, `sidecar` or `grpc`, `name` the Gateway's or the Service's name (empty for `grpc`). The ports
    are a sidecar's own, 0 elsewhere: `port` its service listens on, `ingress_port` and `egress_port` itself. `sotw` is
    set for replicas of a gateway that speak state-of-the-world: they get the same routes in another form. `zone` is
    where they run, as far as that is known: endpoints that are meant for it come first for them; `node` is the same for
    the proxies of a Gateway on one machine. `mesh_tls`: an agent beside them gives them a workload's certificate.
    `upstreams` are what a sidecar offers beside HTTP, sorted.
    """

    kind: str
    namespace: str
    name: str = ""
    port: int = 0
    ingress_port: int = 0
    egress_port: int = 0
    sotw: bool = False
    zone: str = ""
    mesh_tls: bool = False
    node: str = ""
    upstreams: tuple[Upstream, ...] = ()

    @property
    def kin(self) -> Audience:
        """All who see the same but for endpoints near by: what one of them refuses or takes says of all."""
        return self._replace(node="") if self.node else self


class Connected(msgspec.Struct, frozen=True):
    """That proxies of an audience are, or lately were, connected; rows of `AUDIENCES`."""


class RejectionKey(NamedTuple):
    """A version of an Envoy resource that a proxy of an audience refused (NACK)."""

    audience: Audience
    type_url: str
    name: str
    version: str


class Rejection(msgspec.Struct, frozen=True):
    """What the proxy said, who is to blame, and what stands meanwhile.

    `last_good` is the serialised `google.protobuf.Any` of the version that stays in force (None: there was none, the
    resource is withheld), `last_good_version` its version and `last_good_needs` the clusters that it routes to.
    `objects` are the config objects that made the change. `everywhere` tells whether that stands for every proxy of the
    audience; if not, the trouble is the refusing proxy's own, which goes without, and others are given the version.
    """

    node: str
    detail: str
    objects: tuple[ObjectKey, ...] = ()
    last_good: bytes | None = None
    last_good_version: str = ""
    last_good_needs: tuple[str, ...] = ()
    everywhere: bool = True


class ProvisionedKey(NamedTuple):
    """A Gateway whose proxies a platform runs, and the source that runs them (`kubernetes:<cluster>`)."""

    namespace: str
    name: str
    source: str


def nothing_run_by(source: str) -> ProvisionedKey:
    """The key of the row which says that a source's platform runs no proxies: whoever likes starts them."""
    return ProvisionedKey("", "", source)


class Provisioned(msgspec.Struct, frozen=True):
    """What a platform made to run a Gateway.

    `addresses` are those at which clients reach it, IP addresses or host names; `ready` says that a proxy takes
    requests there. `problem` tells why it is not as it should be, `reason` is the specification's word for it.
    `service_account` is the account its proxies run as.
    """

    addresses: tuple[str, ...] = ()
    ready: bool = False
    problem: str = ""
    reason: Literal["Pending", "Invalid", "NoResources", "AddressNotAssigned", "AddressNotUsable"] = "Pending"
    service_account: str = ""


class AcknowledgedKey(NamedTuple):
    """A Gateway whose proxies are watched; see `WATCHED`."""

    namespace: str
    name: str


WATCHED = AcknowledgedKey("", "")
"""The key of the row which says that proxies are watched at all; offline nobody knows of any."""


class Acknowledged(msgspec.Struct, frozen=True):
    """What the connected proxies of a Gateway have acknowledged: its listeners as these generations made them.

    `generations` are of the Gateway and its ListenerSets, `listeners` the names of all that were served then; sorted.
    """

    generations: tuple[tuple[ObjectKey, int], ...] = ()
    listeners: tuple[str, ...] = ()

    def generation(self, key: ObjectKey) -> int | None:
        """Of an object, the generation that was acknowledged last."""
        return next((generation for at, generation in self.generations if at == key), None)


class MeshSettings(msgspec.Struct, frozen=True):
    """What the server's settings say of the whole mesh: the row of `MESH` under the key "".

    Policies for the Namespace `root_namespace`, in it, are for all namespaces. Identities are of `trust_domain`.
    `first_bytes_wait` is how long (ms) a PERMISSIVE TCP port waits for a client's first bytes before it counts as
    plaintext. `envoy_patches`: whether EnvoyPatches are applied, `route_code`:
    whether Lua and Wasm of RoutePolicies run.
    """

    root_namespace: str = "fairlead-system"
    trust_domain: str = "cluster.local"
    first_bytes_wait: int = 500
    envoy_patches: bool = False
    route_code: bool = False


class TrustBundleRow(msgspec.Struct, frozen=True):
    """The authorities that speak for a trust domain; rows of `TRUST_BUNDLES`, under the trust domain's name.

    `roots` are certificates in PEM, and nothing where the trust domain has taken all of them back: then none of its
    certificates is valid. `own` is set for our trust domain and no other. No row: nothing is known of that domain.
    """

    roots: bytes
    own: bool = False


class KeySetRow(msgspec.Struct, frozen=True):
    """The keys at an address that policies name; rows of `KEY_SETS`, under that address.

    `jwks` is what `mesh.jwks` made of them, empty where none were ever had. `problem`: why they cannot be had now.
    """

    jwks: bytes = b""
    problem: str = ""


class SystemTrust(msgspec.Struct, frozen=True):
    """The authorities that the server's system trusts, in PEM: the row of `SYSTEM_TRUST` under the key ""."""

    pem: bytes


Phase = Literal["Pending", "Progressing", "Paused", "Promoted", "RolledBack"]


class Tally(msgspec.Struct, frozen=True):
    """Requests that ended, as proxies report them."""

    succeeded: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.succeeded + self.failed

    def plus(self, other: Tally) -> Tally:
        """Both together."""
        return Tally(self.succeeded + other.succeeded, self.failed + other.failed)


class RolloutState(msgspec.Struct, frozen=True, rename="camel"):
    """How far a Rollout has come; rows of `ROLLOUT_STATES` under its key, kept in the store (`mesh.rollout_machine`).

    `moves` says what is being moved, so that another thing begins anew. `step` counts from 1, 0 before the first;
    `weight` is the canary's share in percent. `since` is when the step began and `checked` when its present check did,
    in seconds since 1970; `passed` are its checks that were passed, `failed` those failed in a row. `canary` and
    `stable` count the requests of all checks. `revision` grows with each change, and `term` with each change of the
    replica that acts: of two states the later one holds, first by `term`. For a replica that died may have written down
    for itself what no other ever saw, and the next one went another way from what it saw.
    """

    moves: str
    phase: Phase = "Pending"
    step: int = 0
    weight: int = 0
    since: float = 0.0
    checked: float = 0.0
    passed: int = 0
    failed: int = 0
    approved: bool = False
    reason: str = ""
    message: str = ""
    canary: Tally = Tally()
    stable: Tally = Tally()
    revision: int = 0
    term: int = 0


DECLARED: Input[DeclaredKey, Declared] = Input("declared")
DISCOVERED_SERVICES: Input[DiscoveredServiceKey, DiscoveredService] = Input("discovered_services")
DISCOVERED_ENDPOINTS: Input[DiscoveredEndpointsKey, DiscoveredEndpoints] = Input("discovered_endpoints")
AUDIENCES: Input[Audience, Connected] = Input("audiences")
REJECTIONS: Input[RejectionKey, Rejection] = Input("rejections")
PROVISIONED: Input[ProvisionedKey, Provisioned] = Input("provisioned")
ACKNOWLEDGED: Input[AcknowledgedKey, Acknowledged] = Input("acknowledged")
MESH: Input[str, MeshSettings] = Input("mesh")
TRUST_BUNDLES: Input[str, TrustBundleRow] = Input("trust_bundles")
KEY_SETS: Input[str, KeySetRow] = Input("key_sets")
SYSTEM_TRUST: Input[str, SystemTrust] = Input("system_trust")
ROLLOUT_STATES: Input[ObjectKey, RolloutState] = Input("rollout_states")

DISCOVERED_SERVICES_BY_NAME = DISCOVERED_SERVICES.index("name", lambda key, _: (ServiceKey(key.namespace, key.name),))
DISCOVERED_ENDPOINTS_BY_SERVICE = DISCOVERED_ENDPOINTS.index(
    "service", lambda key, _: (ServiceKey(key.namespace, key.service),)
)
SIDECARS_BY_SERVICE = AUDIENCES.index(
    "fronted service",
    lambda key, _: (ServiceKey(key.namespace, key.name),) if key.kind == "sidecar" and key.ingress_port else (),
)
AUDIENCES_BY_NODE = AUDIENCES.index("node", lambda key, _: (key.node,) if key.node else ())
REJECTIONS_BY_AUDIENCE = REJECTIONS.index("audience", lambda key, _: (key.audience,))
REJECTIONS_BY_GATEWAY = REJECTIONS.index(
    "gateway",
    lambda key, _: ((key.audience.namespace, key.audience.name),) if key.audience.kind == "gateway" else (),
)
REJECTIONS_BY_OBJECT = REJECTIONS.index("object", lambda _, row: row.objects)

INPUTS = (
    DECLARED,
    DISCOVERED_SERVICES,
    DISCOVERED_ENDPOINTS,
    AUDIENCES,
    REJECTIONS,
    PROVISIONED,
    ACKNOWLEDGED,
    MESH,
    TRUST_BUNDLES,
    KEY_SETS,
    SYSTEM_TRUST,
    ROLLOUT_STATES,
)


def mesh_settings(look: Reader) -> MeshSettings:
    """The settings of the mesh; the defaults where no server runs (translation offline)."""
    return look(MESH, "") or MeshSettings()
