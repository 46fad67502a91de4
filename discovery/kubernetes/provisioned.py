"""What is there of what runs Gateways, read from the API server, and what follows from it: rows, and what to do. Pure.

`provision.py` says what should be there; here live objects are compared with that. An object is ours only if it carries
our label and names the Gateway; anything else of the same name is a stranger's and never touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import field

from discovery.kubernetes.provision import CONTENT, OF_GATEWAY, OURS
from discovery.kubernetes.wire import Meta, Strings, Wire
from mesh.gateways import GatewayKey
from mesh.kinds.gatewayparameters import ServiceType
from mesh.model import Provisioned

MAX_ADDRESSES = 16  # of a Gateway's status, by its CRD

Reason = Literal["Pending", "Invalid", "NoResources", "AddressNotAssigned", "AddressNotUsable"]


class Part(NamedTuple):
    """A kind of object that Gateways are run with: its plural, and the version and group of its API."""

    kind: str
    plural: str
    version: str
    group: str = ""

    @property
    def root(self) -> str:
        """Where its API is."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"


PARTS = (
    Part("ServiceAccount", "serviceaccounts", "v1"),
    Part("ConfigMap", "configmaps", "v1"),
    Part("Deployment", "deployments", "v1", "apps"),
    Part("Service", "services", "v1"),
    Part("PodDisruptionBudget", "poddisruptionbudgets", "v1", "policy"),
)


# -- what is read


class LiveMeta(Meta, frozen=True, gc=False):
    """Metadata of an object that may be ours."""

    uid: str = ""
    generation: int = 0
    labels: Strings | None = None
    annotations: Strings | None = None
    deletion_timestamp: str | None = None


class Ingress(Wire, frozen=True, gc=False):
    """Where a load balancer listens."""

    ip: str | None = None
    hostname: str | None = None


class LoadBalancer(Wire, frozen=True, gc=False):
    """`status.loadBalancer` of a Service."""

    ingress: list[Ingress] | None = None


class LiveCondition(Wire, frozen=True, gc=False):
    """A condition of a Deployment."""

    type: str
    status: str
    reason: str | None = None
    message: str | None = None


class LiveStatus(Wire, frozen=True, gc=False):
    """`status` of a Deployment or a Service."""

    available_replicas: int | None = None
    conditions: list[LiveCondition] | None = None
    load_balancer: LoadBalancer | None = None


class LiveSpec(Wire, frozen=True, gc=False):
    """`spec` of a Service, and the replicas of a Deployment."""

    type: str | None = None
    cluster_ip: str | None = field(default=None, name="clusterIP")
    cluster_ips: list[str] | None = field(default=None, name="clusterIPs")
    load_balancer_class: str | None = None
    replicas: int | None = None


class Live(Wire, frozen=True, gc=False):
    """An object of one of the kinds of `PARTS`."""

    metadata: LiveMeta
    spec: LiveSpec | None = None
    status: LiveStatus | None = None

    @property
    def gateway(self) -> GatewayKey | None:
        """The Gateway that it runs, if it is ours."""
        name = (self.metadata.annotations or {}).get(OF_GATEWAY, "")
        if not name or (self.metadata.labels or {}).get(OURS) != "gateway":
            return None
        return GatewayKey(self.metadata.namespace, name)

    @property
    def content(self) -> str:
        """The hash of the manifest that it was made from."""
        return (self.metadata.annotations or {}).get(CONTENT, "")

    @property
    def version(self) -> str:
        """What changes with what we set, and as little as possible otherwise."""
        return f"{self.metadata.uid}/{self.metadata.generation or self.metadata.resource_version}"


class NodeAddress(Wire, frozen=True, gc=False):
    """An address of a Node."""

    type: str
    address: str


class NodeStatus(Wire, frozen=True, gc=False):
    """`status` of a Node."""

    addresses: list[NodeAddress] | None = None


class LiveNode(Wire, frozen=True, gc=False):
    """A Node with its addresses."""

    metadata: Meta
    status: NodeStatus | None = None


# -- what follows


class Trouble(msgspec.Struct, frozen=True):
    """Why a Gateway is not run as it should be: the specification's word, and a sentence for people."""

    reason: Reason
    message: str


def row_of(
    *,
    name: str,
    service_type: ServiceType,
    service: Live | None,
    deployment: Live | None,
    node_addresses: Iterable[str] = (),
    trouble: Trouble | None = None,
) -> Provisioned:
    """What is told of a Gateway whose objects have that name. `trouble` is what went wrong when they were made."""
    addresses = addresses_of(service, node_addresses) if service is not None else ()
    trouble = trouble or _deployment_trouble(deployment)
    if trouble is None and service is not None and not addresses and service_type == "LoadBalancer":
        trouble = Trouble(
            "AddressNotAssigned",
            f"Service {name} has no address from a load balancer yet. Where the cluster has none, set serviceType in"
            " GatewayParameters, or the setting gateway_service_type, to ClusterIP or NodePort.",
        )
    return Provisioned(
        addresses=addresses,
        ready=is_available(deployment),
        problem=trouble.message if trouble is not None else "",
        reason=trouble.reason if trouble is not None else "Pending",
        service_account=name,
    )


def addresses_of(service: Live, node_addresses: Iterable[str]) -> tuple[str, ...]:
    """Where clients reach a Service, by its type."""
    spec = service.spec or LiveSpec()
    found: Iterable[str]
    if spec.type == "LoadBalancer":
        balancer = service.status.load_balancer if service.status is not None else None
        ingress = (balancer.ingress if balancer is not None else None) or []
        found = [one.ip or one.hostname or "" for one in ingress]
    elif spec.type == "NodePort":
        found = node_addresses
    else:
        found = [ip for ip in spec.cluster_ips or [spec.cluster_ip or ""] if ip != "None"]
    return tuple(sorted({address for address in found if address}))[:MAX_ADDRESSES]


def node_addresses(nodes: Iterable[LiveNode]) -> tuple[str, ...]:
    """Where the nodes are reached: by their external addresses, or where there are none their internal ones."""
    by_type: dict[str, set[str]] = {}
    for node in nodes:
        for one in (node.status.addresses if node.status is not None else None) or []:
            by_type.setdefault(one.type, set()).add(one.address)
    return tuple(sorted(by_type.get("ExternalIP") or by_type.get("InternalIP") or ()))


def is_available(deployment: Live | None) -> bool:
    """Whether a proxy takes requests."""
    status = deployment.status if deployment is not None else None
    return status is not None and bool(status.available_replicas)


def wants_none(deployment: Live | None) -> bool:
    """Whether there are to be no proxies, or nothing is known of them."""
    return deployment is None or (deployment.spec is not None and deployment.spec.replicas == 0)


def _deployment_trouble(deployment: Live | None) -> Trouble | None:
    """Why no proxy comes up, where the Deployment says so."""
    if deployment is None or deployment.status is None or is_available(deployment):
        return None
    conditions = {one.type: one for one in deployment.status.conditions or []}
    failure = conditions.get("ReplicaFailure")
    if failure is not None and failure.status == "True":
        return Trouble("NoResources", f"Kubernetes makes no pods: {failure.message or failure.reason}")
    progress = conditions.get("Progressing")
    if progress is not None and progress.status == "False":
        said = progress.message or progress.reason
        return Trouble("Pending", f"No proxy becomes ready: {said} Look at the pods' events.")
    return None


def must_be_replaced(live: Live, manifest: Mapping[str, Any]) -> bool:
    """Whether an object has a field that can only be set when it is made, and has it otherwise than wanted."""
    if manifest["kind"] != "Service" or live.spec is None:
        return False
    spec = manifest["spec"]
    if "clusterIP" in spec and live.spec.cluster_ip not in (None, "", spec["clusterIP"]):
        return True
    stays = live.spec.type == spec["type"] == "LoadBalancer"
    return bool(stays and live.spec.load_balancer_class != spec.get("loadBalancerClass"))


def refusal(kind: str, name: str, reason: str, message: str, *, requested: bool) -> Trouble:
    """What to tell of an object that the API server refused; `requested`: it asks for an address."""
    said = f"{kind} {name} is refused: {message}"
    if kind == "Service" and requested and reason == "Invalid":
        return Trouble("AddressNotUsable", f"{said} Mend spec.addresses.")
    if "exceeded quota" in message:
        return Trouble("NoResources", said)
    return Trouble("Invalid" if reason in ("Invalid", "BadRequest") else "Pending", said)


def strange(kind: str, name: str) -> Trouble:
    """What to tell where an object of that name is there and not ours."""
    said = (
        f"There is a {kind} {name} already that Fairlead did not make for this Gateway; it is left alone."
        " Remove it, or rename the Gateway."
    )
    return Trouble("Invalid", said)
