"""The Kubernetes objects that run the proxies of a Gateway, as manifests. Pure: equal inputs give equal manifests.

Per Gateway, in its namespace and all of one name (`mesh.provisioning.resource_name`): ServiceAccount, ConfigMap (what
Envoy reads at its start), Deployment, Service, PodDisruptionBudget; each owned by the Gateway, so that they go with it.
What depends on listeners is in the Service alone: a new listener restarts no proxy. What Envoy is told in its
bootstrap is not known here: `Files` are handed in.

How a proxy ends. `/healthcheck/fail` makes Envoy close HTTP connections with its next answers, so that clients go
elsewhere, and turns `/ready` into 503; only its administrator takes that post, on a socket inside the pod. The image
may hold nothing but Envoy (no shell, no curl), a kubelet's `httpGet` can neither post nor reach it, and a `sleep` tells
Envoy nothing. So the hook before the end is Envoy once more, with a bootstrap of its own (`DRAIN`): it posts,
waits for the drain time, and ends. Nothing that can be reached from the network makes a proxy drain; a listener of the
bootstrap at `READY_PORT` answers `/ready` alone.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from mesh.gateways import Gateway as GatewayRow
from mesh.kinds.gateway import Gateway
from mesh.kinds.gatewayparameters import GatewayParametersSpec, ServiceType, Toleration
from mesh.provisioning import READY_PORT, label_value, resource_name
from mesh.validations.gatewayparameters import amount

JSON = dict[str, Any]

GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
GATEWAY_CLASS_NAME = "gateway.networking.k8s.io/gateway-class-name"
OURS = "fairlead.dev/provisioned"
"""The label of everything that is made here, with the value `gateway`; what lacks it is never touched."""
SELECTOR = f"{OURS}=gateway"
OF_GATEWAY = "fairlead.dev/gateway"
"""The annotation with the whole name of the Gateway."""
CONTENT = "fairlead.dev/content"
"""The annotation with the hash of the manifest."""

ENVOY = "/usr/local/bin/envoy"
CONFIG_DIR = "/etc/fairlead"
BOOTSTRAP, DRAIN, CA = "bootstrap.json", "drain.json", "ca.pem"
"""The files that there must be in `CONFIG_DIR`."""
TOKEN_DIR = "/var/run/secrets/fairlead"  # noqa: S105 - where it is, not what it is
TOKEN = "token"  # noqa: S105
DRAIN_SECONDS = 10
_USER = 65532
_REQUESTS = {"cpu": "50m", "memory": "64Mi"}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for all Gateways of a cluster unless their parameters say otherwise. Times are in seconds."""

    image: str
    image_pull_policy: Literal["", "Always", "IfNotPresent", "Never"] = ""
    service_type: ServiceType = "LoadBalancer"
    control_plane: str = ""
    """Where the proxies get their configuration, for people to read."""
    token_audience: str = "fairlead"  # noqa: S105 - who tokens are for
    token_seconds: int = 3600


class Files(msgspec.Struct, frozen=True):
    """What a proxy finds in `CONFIG_DIR`: at its start, by name, and the authority of the control plane (PEM).

    Among the first are `BOOTSTRAP` and that of the hook at its end, `DRAIN`. A change of these restarts the proxies; a
    new authority reaches them as they run.
    """

    start: Mapping[str, str]
    ca: str


def drain_seconds(parameters: GatewayParametersSpec) -> int:
    """How long a proxy that is to end still serves."""
    return DRAIN_SECONDS if parameters.drain_seconds is None else parameters.drain_seconds


def manifests(
    gateway: Gateway,
    row: GatewayRow,
    parameters: GatewayParametersSpec,
    settings: Settings,
    files: Files,
    *,
    http3: Iterable[int] = (),
) -> tuple[JSON, ...]:
    """What runs a Gateway, in the order in which it is to be made; nothing where no listener could be reached.

    `http3` are the ports of its HTTPS listeners that take QUIC beside TCP.
    """
    ports = _ports(row)
    if not ports:
        return ()
    ports |= {(port, True): "HTTP3" for port in http3}
    made = _Maker(gateway, parameters, settings)
    return tuple(
        _sealed(manifest)
        for manifest in (
            made.service_account(),
            made.config(files),
            made.deployment(files),
            made.service(ports, row.requested),
            made.budget(),
        )
    )


def content_of(manifest: Mapping[str, Any]) -> str:
    """The hash that a manifest carries."""
    return str(manifest["metadata"]["annotations"][CONTENT])


class _Maker:
    """The manifests of one Gateway."""

    def __init__(self, gateway: Gateway, parameters: GatewayParametersSpec, settings: Settings) -> None:
        self._gateway = gateway
        self._parameters = parameters
        self._settings = settings
        self._name = resource_name(gateway.metadata.name, gateway.spec.gateway_class_name)
        infrastructure = gateway.spec.infrastructure
        self._extra_annotations = dict(infrastructure.annotations) if infrastructure is not None else {}
        self._selector = {
            GATEWAY_CLASS_NAME: label_value(gateway.spec.gateway_class_name),
            GATEWAY_NAME: label_value(gateway.metadata.name),
            OURS: "gateway",
        }
        self._labels = {
            "app.kubernetes.io/managed-by": "fairlead",
            "app.kubernetes.io/name": "fairlead-gateway",
            **(infrastructure.labels if infrastructure is not None else {}),
            **self._selector,
        }

    def _object(self, version: str, kind: str, body: JSON, annotations: Mapping[str, str] | None = None) -> JSON:
        metadata = self._gateway.metadata
        owner = {
            "apiVersion": self._gateway.api_version,
            "kind": "Gateway",
            "name": metadata.name,
            "uid": metadata.uid,
            "controller": True,
        }
        return {
            "apiVersion": version,
            "kind": kind,
            "metadata": {
                "name": self._name,
                "namespace": metadata.namespace,
                "labels": self._labels,
                "annotations": {**self._extra_annotations, **(annotations or {}), OF_GATEWAY: metadata.name},
                "ownerReferences": [owner],
            },
            **body,
        }

    def service_account(self) -> JSON:
        """Who the proxies are; the pods mount a token for the control plane alone, none for Kubernetes' API."""
        return self._object("v1", "ServiceAccount", {"automountServiceAccountToken": False})

    def config(self, files: Files) -> JSON:
        """What the proxies read at their start, and the authority."""
        return self._object("v1", "ConfigMap", {"data": {**files.start, CA: files.ca}})

    def deployment(self, files: Files) -> JSON:
        """The proxies. `replicas` is left out where nobody says how many, so that others may scale."""
        replicas = self._parameters.replicas
        started_with = hashlib.sha256(msgspec.json.encode(files.start, order="sorted")).hexdigest()[:16]
        annotations = {
            **self._extra_annotations,
            **(self._parameters.pod_annotations or {}),
            "fairlead.dev/bootstrap": started_with,
        }
        spec = {
            **({"replicas": replicas} if replicas is not None else {}),
            "selector": {"matchLabels": self._selector},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}},
            "template": {"metadata": {"labels": self._labels, "annotations": annotations}, "spec": self._pod()},
        }
        return self._object("apps/v1", "Deployment", {"spec": spec})

    def _pod(self) -> JSON:
        parameters = self._parameters
        spread = {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": self._selector},
        }
        return {
            "serviceAccountName": self._name,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": drain_seconds(parameters) + 15,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _USER,
                "runAsGroup": _USER,
                "fsGroup": _USER,
                "seccompProfile": {"type": "RuntimeDefault"},
                # Ports below 1024 without a capability; one of the sysctls that Kubernetes holds to be safe.
                "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
            },
            "containers": [self._container()],
            "volumes": [{"name": "config", "configMap": {"name": self._name}}, self._token_volume()],
            "topologySpreadConstraints": [spread],
            **({"nodeSelector": dict(parameters.node_selector)} if parameters.node_selector else {}),
            **({"tolerations": [_toleration(one) for one in parameters.tolerations]} if parameters.tolerations else {}),
        }

    def _token_volume(self) -> JSON:
        token = {
            "audience": self._settings.token_audience,
            "expirationSeconds": self._settings.token_seconds,
            "path": TOKEN,
        }
        return {"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}}

    def _container(self) -> JSON:
        parameters, settings = self._parameters, self._settings
        metadata = self._gateway.metadata
        # Ready means that Envoy has its configuration. No probe of liveness: an Envoy that has died is gone, and one
        # without a control plane serves what it last was told.
        ready = {"httpGet": {"path": "/ready", "port": READY_PORT}, "periodSeconds": 1, "timeoutSeconds": 1}
        made: JSON = {
            "name": "envoy",
            "image": parameters.envoy_image or settings.image,
            "command": [ENVOY],
            "args": [
                *("--config-path", f"{CONFIG_DIR}/{BOOTSTRAP}"),
                *("--service-node", f"gateway~{metadata.namespace}~{metadata.name}~$(POD_NAME)"),
                "--disable-hot-restart",
                *("--drain-time-s", str(max(1, drain_seconds(parameters)))),
                *("--log-level", parameters.log_level or "warning"),
                *_concurrency(parameters),
            ],
            "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "ports": [{"name": "ready", "containerPort": READY_PORT, "protocol": "TCP"}],
            "readinessProbe": {**ready, "failureThreshold": 3},
            "resources": _resources(parameters),
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            },
            "volumeMounts": [
                {"name": "config", "mountPath": CONFIG_DIR, "readOnly": True},
                {"name": "token", "mountPath": TOKEN_DIR, "readOnly": True},
            ],
        }
        if settings.image_pull_policy:
            made["imagePullPolicy"] = settings.image_pull_policy
        if drain_seconds(parameters):
            drain = ["--config-path", f"{CONFIG_DIR}/{DRAIN}", "--disable-hot-restart", "--concurrency", "1"]
            made["lifecycle"] = {"preStop": {"exec": {"command": [ENVOY, *drain, "--log-level", "error"]}}}
        return made

    def service(self, ports: Mapping[tuple[int, bool], str], requested: Iterable[str]) -> JSON:
        """How clients reach the proxies."""
        parameters = self._parameters
        kind = parameters.service_type or self._settings.service_type
        spec: JSON = {
            "type": kind,
            "selector": self._selector,
            "ipFamilyPolicy": "PreferDualStack",
            "ports": [
                {
                    "name": f"{protocol.lower()}-{port}",
                    "port": port,
                    "targetPort": port,
                    "protocol": "UDP" if udp else "TCP",
                    **({} if protocol in ("TCP", "UDP", "HTTP3") else {"appProtocol": protocol.lower()}),
                }
                for (port, udp), protocol in sorted(ports.items())
            ],
        }
        if kind == "LoadBalancer" and parameters.load_balancer_class:
            spec["loadBalancerClass"] = parameters.load_balancer_class
        if kind != "ClusterIP" and parameters.external_traffic_policy:
            spec["externalTrafficPolicy"] = parameters.external_traffic_policy
        spec |= _requests(kind, requested)
        return self._object("v1", "Service", {"spec": spec}, parameters.service_annotations)

    def budget(self) -> JSON:
        """How many proxies evictions leave. One at a time by default: a lone proxy must not block a node's drain."""
        least = self._parameters.min_available
        spec = {"maxUnavailable": 1} if least is None else {"minAvailable": least}
        return self._object(
            "policy/v1", "PodDisruptionBudget", {"spec": {**spec, "selector": {"matchLabels": self._selector}}}
        )


def _ports(row: GatewayRow) -> dict[tuple[int, bool], str]:
    """The ports that clients use, with their protocol. A certificate that is missing for a while closes no port here:
    a port that comes back might have another number on the nodes.
    """
    if not row.accepted:
        return {}
    # HTTPS and TLS may share a port: the name must not depend on which of them is written first.
    accepted = sorted((one.protocol, one.place) for one in row.listeners if one.accepted)
    return {place: protocol for protocol, place in reversed(accepted)}


def _requests(kind: str, addresses: Iterable[str]) -> JSON:
    """The fields by which a Service asks for addresses: one of each family at most.

    `externalIPs` is not among them: with it a user of one namespace could take the traffic to any address.
    """
    by_family = {":" in address: address for address in sorted(addresses, reverse=True) if _is_ip(address)}
    wanted = [by_family[family] for family in sorted(by_family)]
    if not wanted or kind == "NodePort":
        return {}
    return {"clusterIP": wanted[0], "clusterIPs": wanted} if kind == "ClusterIP" else {"loadBalancerIP": wanted[0]}


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def _resources(parameters: GatewayParametersSpec) -> JSON:
    given = parameters.resources
    if given is None:
        return {"requests": dict(_REQUESTS)}
    sides = {"requests": given.requests, "limits": given.limits}
    return {side: dict(sorted(amounts.items())) for side, amounts in sides.items() if amounts}


def _concurrency(parameters: GatewayParametersSpec) -> tuple[str, ...]:
    """As many worker threads as the limit has cores: Envoy counts those of the node."""
    limits = (parameters.resources.limits if parameters.resources is not None else None) or {}
    return ("--concurrency", str(max(1, math.ceil(amount(limits["cpu"]))))) if "cpu" in limits else ()


def _toleration(one: Toleration) -> JSON:
    fields = {
        "key": one.key,
        "operator": one.operator,
        "value": one.value,
        "effect": one.effect,
        "tolerationSeconds": one.toleration_seconds,
    }
    return {name: value for name, value in fields.items() if value not in ("", None)}


def _sealed(manifest: JSON) -> JSON:
    """The manifest with the hash of its content."""
    content = hashlib.sha256(msgspec.json.encode(manifest, order="sorted")).hexdigest()[:32]
    metadata = manifest["metadata"]
    return {
        **manifest,
        "metadata": {**metadata, "annotations": {**metadata["annotations"], CONTENT: content}},
    }
