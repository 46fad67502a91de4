"""BackendTLSPolicy: how backends are spoken to over TLS, and by what their certificates are judged."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from mesh.kinds.fields import END, SUBDOMAIN, AnnotationValue, Hostname, PreciseHostname
from mesh.kinds.meta import Object, Spec
from mesh.kinds.policy import TargetRefs
from mesh.kinds.references import LocalObjectReference

SYSTEM = "System"


class SubjectAltName(Spec, frozen=True, kw_only=True):
    """A name of which a backend's certificate must have one."""

    type: Literal["Hostname", "URI"]
    hostname: Hostname | None = None
    uri: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=253,
                pattern=rf"^[A-Za-z][A-Za-z0-9+\-.]*:[^\s\x00-\x1f]+{END}",
                description="a URI with its scheme",
                examples=["spiffe://cluster.local/ns/shop/sa/reviews"],
            ),
        ]
        | None
    ) = None


class BackendTLSPolicyValidation(Spec, frozen=True, kw_only=True):
    """Authorities, the server name, and the names that a certificate may have instead of it."""

    ca_certificate_refs: Annotated[tuple[LocalObjectReference, ...], Meta(max_length=8)] = ()
    well_known_ca_certificates: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=253,
                pattern=rf"^(System|{SUBDOMAIN}/([A-Za-z0-9][-A-Za-z0-9_.]{{0,61}})?[A-Za-z0-9]){END}",
                description="the name of a set of authorities",
                examples=["System"],
            ),
        ]
        | None
    ) = field(default=None, name="wellKnownCACertificates")
    hostname: PreciseHostname
    subject_alt_names: Annotated[tuple[SubjectAltName, ...], Meta(max_length=5)] = ()


class BackendTLSPolicySpec(Spec, frozen=True, kw_only=True):
    """What the policy is for, and how certificates are judged."""

    target_refs: TargetRefs
    validation: BackendTLSPolicyValidation
    options: Annotated[dict[str, AnnotationValue], Meta(max_length=16)] = field(default_factory=dict)


class BackendTLSPolicy(Object, frozen=True, kw_only=True):
    """`gateway.networking.k8s.io/v1` BackendTLSPolicy."""

    api_version: Literal["gateway.networking.k8s.io/v1"]
    kind: Literal["BackendTLSPolicy"]
    spec: BackendTLSPolicySpec
