"""The names of Envoy resources: made from identity, never from position (DESIGN §5).

A name that depends on an index would turn a reordered list into new clusters and cold connection pools; a name that
depends on what a thing is survives any edit around it. Stat names are always set and have no dots, because Envoy's
statistics are a tree with dots between its levels.
"""

from __future__ import annotations

from mesh.backends import Backend
from mesh.model import Audience, ObjectKey, ServiceKey
from mesh.outside import PORT

# A cluster that never exists: requests for a backend that cannot be resolved are answered 500 by its absence.
MISSING_CLUSTER = "missing-backend"

# The scope of what only proxyless gRPC clients see, of whatever namespace.
GRPC_SCOPE = "grpc"

# The scope of clusters as proxies with a workload's certificate see them.
MESH_TLS = "mesh-tls"

OWN = "own"
ROUTE_RETRY = "route-retry"
UDP = "udp"
HTTP2 = "http2"
RAW = "raw"
CANARY = "canary/"
CREDENTIAL = "credential/"
FAILOVER = "failover/"

OUTSIDE = "backend"

_AND = ","  # no name of an object has one

# The SDS name of our trust domain's authorities, as SPIFFE's agents have it too.
ROOTCA = "ROOTCA"


def root_name(trust_domain: str) -> str:
    """The SDS name of another trust domain's authorities."""
    return f"{ROOTCA}:{trust_domain}"


def cluster_name(backend: Backend) -> str:
    """`<namespace>/<service>:<port>`, then `@<subset>`, then what makes it differ from the cluster of that name.

    `~own`: only the Service object's endpoints count. `~route-retry`: the retries are its routes' own. `~udp`: the port
    is one of UDP. `~http2`: it is spoken to as gRPC is, whatever else is known of it.
    `~raw`: bytes pass as they are, though a BackendTLSPolicy asks for TLS. A Backend is `backend/<namespace>/<name>`.
    `~canary/<namespace>/<name>`: what that Rollout sends there, counted apart. `~credential/<namespace>/<name>`: with
    the credential of that RoutePolicy. `~failover/<cluster>,<cluster>`, which comes last: these take over from the one
    whose name stands before it, where that cannot answer.
    """
    subset = f"@{backend.subset}" if backend.subset else ""
    own = f"~{OWN}" if backend.own else ""
    retry = f"~{ROUTE_RETRY}" if backend.route_retry else ""
    udp = f"~{UDP}" if backend.udp else ""
    http2 = f"~{HTTP2}" if backend.http2 else ""
    raw = f"~{RAW}" if backend.raw else ""
    name = f"{backend.service.namespace}/{backend.service.name}"
    name = f"{OUTSIDE}/{name}" if backend.outside else f"{name}:{backend.port}"
    canary = f"~{CANARY}{backend.canary_of}" if backend.canary_of else ""
    credential = f"~{CREDENTIAL}{backend.credential}" if backend.credential else ""
    failover = f"~{FAILOVER}{_AND.join(backend.failover)}" if backend.failover else ""
    return f"{name}{subset}{own}{retry}{udp}{http2}{raw}{canary}{credential}{failover}"


def backend_of(cluster: str) -> Backend | None:
    """What `cluster_name` made a name from; None for a name of another origin."""
    whole, _, failover = cluster.partition(f"~{FAILOVER}")
    successors = tuple(failover.split(_AND)) if failover else ()
    name, *differences = whole.split("~")
    own, route_retry, udp, http2, raw = (name in differences for name in (OWN, ROUTE_RETRY, UDP, HTTP2, RAW))
    canary, credential = _told(differences, CANARY), _told(differences, CREDENTIAL)
    kind, _, rest = name.partition("/")
    if kind == OUTSIDE and "/" in rest:  # no namespace or service has a `/` in its name
        namespace, _, outside = rest.partition("/")
        key = ServiceKey(namespace, outside)
        return Backend(key, PORT, "", own, route_retry, udp, http2, raw, True, canary, credential, successors)
    name, _, subset = name.partition("@")
    service, _, port = name.rpartition(":")
    namespace, slash, service = service.partition("/")
    if not slash or not port.isdigit():
        return None
    key = ServiceKey(namespace, service)
    return Backend(key, int(port), subset, own, route_retry, udp, http2, raw, False, canary, credential, successors)


def members_of(cluster: str) -> tuple[str, ...]:
    """The clusters behind one with failover, in the order in which they are asked; none behind any other."""
    first, _, failover = cluster.partition(f"~{FAILOVER}")
    return (first, *failover.split(_AND)) if failover else ()


def with_members(cluster: str) -> tuple[str, ...]:
    """A cluster, and those behind it."""
    return (cluster, *members_of(cluster))


def _told(differences: list[str], kind: str) -> str:
    return next((said.removeprefix(kind) for said in differences if said.startswith(kind)), "")


def credential_name(policy: ObjectKey) -> str:
    """The SDS name of a RoutePolicy's credential."""
    return f"~credentials/{policy.namespace}/{policy.name}"


def credential_of(name: str) -> ObjectKey | None:
    """What `credential_name` made a name from; None for a name of another origin."""
    kind, *policy = name.split("/")
    return ObjectKey("RoutePolicy", *policy) if kind == "~credentials" and len(policy) == 2 else None


def client_authorities_name(namespace: str, gateway: str, port: int) -> str:
    """The SDS name of the authorities that clients of a gateway's port are judged by; no object's name has a `~`."""
    return f"~clients/{namespace}/{gateway}/{port}"


def backend_authorities_name(policy: ObjectKey) -> str:
    """The SDS name of the authorities of a BackendTLSPolicy."""
    return f"~backends/{policy.namespace}/{policy.name}"


def backend_authorities_of(name: str) -> ObjectKey | None:
    """What `backend_authorities_name` made a name from; None for a name of another origin."""
    if not name.startswith("~backends/"):
        return None
    _, namespace, policy = name.split("/")
    return ObjectKey("BackendTLSPolicy", namespace, policy)


def client_authorities_of(name: str) -> tuple[str, str, int] | None:
    """What `client_authorities_name` made a name from; None for a name of another origin."""
    if not name.startswith("~clients/"):
        return None
    _, namespace, gateway, port = name.split("/")
    return namespace, gateway, int(port)


def shared_cluster(route: ObjectKey) -> str:
    """The cluster of a UDPRoute with several backends, whose endpoints it holds by weight: `udproute/<ns>/<name>`."""
    return f"udproute/{route.namespace}/{route.name}"


def route_of(cluster: str) -> ObjectKey | None:
    """What `shared_cluster` made a name from; None for a name of another origin."""
    kind, _, rest = cluster.partition("/")
    namespace, slash, name = rest.partition("/")
    return ObjectKey("UDPRoute", namespace, name) if kind == "udproute" and slash and ":" not in rest else None


def host_of(cluster: str) -> str:
    """What a health check's `Host` says of a cluster: `<service>.<namespace>`, as proxyless clients write it."""
    backend = backend_of(cluster)
    return f"{backend.service.name}.{backend.service.namespace}" if backend is not None else cluster


def local_cluster_name(port: int, *, http2: bool) -> str:
    """The cluster of the workload next to a sidecar, which differs only by port and HTTP version."""
    return f"localhost:{port}~http2" if http2 else f"localhost:{port}"


def stat_name(name: str) -> str:
    """A name for statistics: as given, with underscores where Envoy would see the end of a level.

    The listener `[::]:80` is `any_80` there.
    """
    return name.replace("[::]", "any").replace(".", "_").replace(":", "_").replace("/udp", "_udp")


def listener_name(address: str, port: int, *, udp: bool = False) -> str:
    """`10.0.0.1:80` or `[::]:80`; of UDP `[::]:80/udp`."""
    suffix = "/udp" if udp else ""
    return f"[{address}]:{port}{suffix}" if ":" in address else f"{address}:{port}{suffix}"


def listener_place(name: str) -> tuple[str, int, bool]:
    """Address, port and whether it is one of UDP, of what `listener_name` made a name from."""
    address, _, rest = name.rpartition(":")
    port, slash, _ = rest.partition("/")
    return address.strip("[]"), int(port), bool(slash)


def gateway_scope(namespace: str, name: str) -> str:
    """The scope of what only the proxies of one Gateway see."""
    return f"gateway/{namespace}/{name}"


def gateway_listeners_scope(namespace: str, name: str, *, sotw: bool) -> str:
    """The scope of a Gateway's listeners, whose form depends on how its proxies are told their routes."""
    scope = gateway_scope(namespace, name)
    return f"{scope}/sotw" if sotw else scope


def gateway_of(scope: str) -> tuple[str, str, bool]:
    """What `gateway_listeners_scope` made a scope from."""
    _, namespace, name, *sotw = scope.split("/")
    return namespace, name, bool(sotw)


def zone_scope(zone: str) -> str:
    """The scope of what proxies of a zone see otherwise than all others."""
    return f"zone/{zone}"


def zone_of(scope: str) -> str:
    """The zone that `zone_scope` made a scope from; empty for another scope."""
    kind, _, zone = scope.partition("/")
    return zone if kind == "zone" else ""


def node_scope(node: str) -> str:
    """The scope of what proxies on a node see otherwise than all others."""
    return f"node/{node}"


def node_of(scope: str) -> str:
    """The node that `node_scope` made a scope from; empty for another scope."""
    kind, _, node = scope.partition("/")
    return node if kind == "node" else ""


def clients_scope(namespace: str, *, grpc: bool) -> str:
    """The scope of what all sidecars, or all gRPC clients, of a namespace share."""
    return f"{'grpc-clients' if grpc else 'sidecars'}/{namespace}"


def audience_scope(audience: Audience) -> str:
    """The scope of what only the sidecars of one workload see; `audience_of` takes it apart again."""
    ports = (audience.port, audience.ingress_port, audience.egress_port)
    scope = "/".join((audience.kind, audience.namespace, audience.name, *map(str, ports)))
    return f"{scope}/{MESH_TLS}" if audience.mesh_tls else scope


def audience_of(scope: str) -> Audience:
    """The audience that a scope is made from."""
    kind, namespace, name, port, ingress_port, egress_port, *tls = scope.split("/")
    return Audience(kind, namespace, name, int(port), int(ingress_port), int(egress_port), mesh_tls=bool(tls))


def mesh_authority(service: ServiceKey, port: int) -> str:
    """How a proxyless gRPC client names a service (`xds:///reviews.default:80`); its route configuration's name too."""
    return f"{service.name}.{service.namespace}:{port}"
