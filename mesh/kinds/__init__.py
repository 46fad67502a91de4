"""The config kinds: Gateway API's own, and ours under `fairlead.dev/v1alpha1`.

One module per kind; names are Gateway API's. `KINDS` is the registry that the API, the command line, files and stores
share. What an object must satisfy beyond its types is in `mesh.validation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, cast

import msgspec

from mesh.kinds.backend import Backend
from mesh.kinds.backendtlspolicy import BackendTLSPolicy
from mesh.kinds.clientpolicy import ClientPolicy
from mesh.kinds.configmap import ConfigMap
from mesh.kinds.envoypatch import EnvoyPatch
from mesh.kinds.fields import END
from mesh.kinds.gateway import Gateway
from mesh.kinds.gatewayclass import GatewayClass
from mesh.kinds.gatewayparameters import GatewayParameters
from mesh.kinds.grpcroute import GRPCRoute
from mesh.kinds.httproute import HTTPRoute
from mesh.kinds.listenerset import ListenerSet
from mesh.kinds.meta import JSON, Object
from mesh.kinds.namespace import Namespace
from mesh.kinds.peerauthentication import PeerAuthentication
from mesh.kinds.referencegrant import ReferenceGrant
from mesh.kinds.requestauthentication import RequestAuthentication
from mesh.kinds.rollout import Rollout
from mesh.kinds.routepolicy import RoutePolicy
from mesh.kinds.secret import Secret
from mesh.kinds.service import Service
from mesh.kinds.servicesubset import ServiceSubset
from mesh.kinds.tcproute import TCPRoute
from mesh.kinds.telemetrypolicy import TelemetryPolicy
from mesh.kinds.tlsroute import TLSRoute
from mesh.kinds.trafficpolicy import TrafficPolicy
from mesh.kinds.udproute import UDPRoute

GATEWAY_V1 = "gateway.networking.k8s.io/v1"
GATEWAY_V1BETA1 = "gateway.networking.k8s.io/v1beta1"
FAIRLEAD_V1ALPHA1 = "fairlead.dev/v1alpha1"


class Kind(msgspec.Struct, frozen=True):
    """A kind and its names. `accepted` are the apiVersions that may be written; they all become `api_version`."""

    name: str
    api_version: str
    accepted: tuple[str, ...]
    plural: str
    short_names: tuple[str, ...]
    namespaced: bool
    struct: type[Object]

    @property
    def group(self) -> str:
        """The API group; empty for Kubernetes' core group."""
        return self.api_version.rpartition("/")[0]


_GATEWAY_API = (GATEWAY_V1, GATEWAY_V1BETA1)

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Kind("GatewayClass", GATEWAY_V1, _GATEWAY_API, "gatewayclasses", ("gc",), False, GatewayClass),
            Kind("Gateway", GATEWAY_V1, _GATEWAY_API, "gateways", ("gtw",), True, Gateway),
            Kind("ListenerSet", GATEWAY_V1, (GATEWAY_V1,), "listenersets", ("lset",), True, ListenerSet),
            Kind("HTTPRoute", GATEWAY_V1, _GATEWAY_API, "httproutes", (), True, HTTPRoute),
            Kind("GRPCRoute", GATEWAY_V1, (GATEWAY_V1,), "grpcroutes", (), True, GRPCRoute),
            Kind("TLSRoute", GATEWAY_V1, (GATEWAY_V1,), "tlsroutes", (), True, TLSRoute),
            Kind("TCPRoute", GATEWAY_V1, (GATEWAY_V1,), "tcproutes", (), True, TCPRoute),
            Kind("UDPRoute", GATEWAY_V1, (GATEWAY_V1,), "udproutes", (), True, UDPRoute),
            Kind("ReferenceGrant", GATEWAY_V1, _GATEWAY_API, "referencegrants", ("refgrant",), True, ReferenceGrant),
            Kind(
                "BackendTLSPolicy",
                GATEWAY_V1,
                (GATEWAY_V1,),
                "backendtlspolicies",
                ("btlspolicy",),
                True,
                BackendTLSPolicy,
            ),
            Kind("Service", FAIRLEAD_V1ALPHA1, (FAIRLEAD_V1ALPHA1,), "services", ("svc",), True, Service),
            Kind(
                "ServiceSubset",
                FAIRLEAD_V1ALPHA1,
                (FAIRLEAD_V1ALPHA1,),
                "servicesubsets",
                ("subset",),
                True,
                ServiceSubset,
            ),
            Kind("Backend", FAIRLEAD_V1ALPHA1, (FAIRLEAD_V1ALPHA1,), "backends", (), True, Backend),
            Kind(
                "GatewayParameters",
                FAIRLEAD_V1ALPHA1,
                (FAIRLEAD_V1ALPHA1,),
                "gatewayparameters",
                ("gwparams",),
                True,
                GatewayParameters,
            ),
            Kind(
                "TrafficPolicy",
                FAIRLEAD_V1ALPHA1,
                (FAIRLEAD_V1ALPHA1,),
                "trafficpolicies",
                ("tp",),
                True,
                TrafficPolicy,
            ),
            Kind(
                "ClientPolicy",
                FAIRLEAD_V1ALPHA1,
                (FAIRLEAD_V1ALPHA1,),
                "clientpolicies",
                ("cp",),
                True,
                ClientPolicy,
            ),
            Kind(
                "TelemetryPolicy",
                FAIRLEAD_V1ALPHA1,
                (FAIRLEAD_V1ALPHA1,),
                "telemetrypolicies",
                ("telemetry",),
                True,
                TelemetryPolicy,
            ),
            Kind(
                "RoutePolicy",
                FAIRLEAD_V1ALPHA1,
                (FAIRLEAD_V1ALPHA1,),
                "routepolicies",
                ("rp",),
                True,
                RoutePolicy,
            ),
            Kind(
                "PeerAuthentication",
                FAIRLEAD_V1ALPHA1,
                (FAIRLEAD_V1ALPHA1,),
                "peerauthentications",
                ("pa",),
                True,
                PeerAuthentication,
            ),
            Kind(
                "RequestAuthentication",
                FAIRLEAD_V1ALPHA1,
                (FAIRLEAD_V1ALPHA1,),
                "requestauthentications",
                ("ra",),
                True,
                RequestAuthentication,
            ),
            Kind("Rollout", FAIRLEAD_V1ALPHA1, (FAIRLEAD_V1ALPHA1,), "rollouts", ("ro",), True, Rollout),
            Kind("EnvoyPatch", FAIRLEAD_V1ALPHA1, (FAIRLEAD_V1ALPHA1,), "envoypatches", ("patch",), True, EnvoyPatch),
            Kind("Secret", "v1", ("v1",), "secrets", (), True, Secret),
            Kind("ConfigMap", "v1", ("v1",), "configmaps", ("cm",), True, ConfigMap),
            Kind("Namespace", "v1", ("v1",), "namespaces", ("ns",), False, Namespace),
        )
    }
)

_ENCODER = msgspec.json.Encoder(order="deterministic")


def kind_named(name: str) -> Kind | None:
    """The kind that a person means by its name, plural, singular or short name, in any case; None if there is none."""
    wanted = name.casefold()
    for kind in KINDS.values():
        if wanted in (kind.name.casefold(), kind.plural, *kind.short_names):
            return kind
    return None


def to_json(value: msgspec.Struct) -> JSON:
    """The wire form of an object or a part of one, in JSON's types: camelCase, defaults left out."""
    return cast("JSON", msgspec.json.decode(_ENCODER.encode(value)))


def encode(value: Object) -> bytes:
    """Canonical bytes: equal objects give equal bytes, whatever order their maps were written in."""
    return _ENCODER.encode(value)


@cache
def _decoder(kind: str) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(KINDS[kind].struct)


def decode(kind: str, data: bytes) -> Object:
    """The object that `encode` made, without judging it again; for stores.

    Raises KeyError for an unknown kind and msgspec.DecodeError or msgspec.ValidationError for bytes of another origin.
    """
    return cast("Object", _decoder(kind).decode(data))


@cache
def json_schema(kind: str) -> JSON:
    """The JSON Schema of a kind, with all limits of its fields; for OpenAPI and CRDs. Not to be changed in place."""
    schema = msgspec.json.schema(KINDS[kind].struct)
    return cast("JSON", _portable(msgspec.json.decode(msgspec.json.encode(schema))))


def _portable(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            key: value.replace(END, "$") if key == "pattern" and isinstance(value, str) else _portable(value)
            for key, value in schema.items()
        }
    return [_portable(item) for item in schema] if isinstance(schema, list) else schema
