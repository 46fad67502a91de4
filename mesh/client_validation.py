"""Whether and how a gateway judges its clients' certificates (`spec.tls.frontend`), per port.

Authorities come from `ca.crt` of ConfigMaps and Secrets. As with certificates there are two tables, so that renewed
authorities reach Envoy and change no listener: whether an object can be used, and what is in it.

Where some references lead nowhere the others count, and the status says so; where all do, the listener is not served:
it would have to let everybody in or nobody.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mesh.certificates import entry, has_block
from mesh.conditions import Condition
from mesh.kinds.configmap import ConfigMap
from mesh.kinds.gateway import FrontendTLSValidation, Gateway
from mesh.kinds.references import GATEWAY_API, ObjectReference
from mesh.kinds.secret import Secret
from mesh.model import Declared, ObjectKey
from mesh.objects import OBJECTS, find
from mesh.reference_grants import Permission, permitted
from mesh.tables import Look, Reader, derived, each

KINDS = ("ConfigMap", "Secret")
ENTRY = "ca.crt"


class Authorities(msgspec.Struct, frozen=True):
    """Certificates in PEM."""

    pem: bytes


class AuthoritiesState(msgspec.Struct, frozen=True):
    """Whether an object holds authorities: `problem` is empty, or says why not."""

    problem: str = ""


class ClientValidation(msgspec.Struct, frozen=True):
    """The objects whose authorities clients' certificates are judged by; `insecure`: and all others are let in too."""

    authorities: tuple[ObjectKey, ...]
    insecure: bool = False


class Judged(msgspec.Struct, frozen=True):
    """What came of a port's configuration: None and no problem where there is none."""

    validation: ClientValidation | None = None
    problems: tuple[Condition, ...] = ()


def _held(key: ObjectKey, _row: Declared) -> tuple[ObjectKey, ...]:
    return (key,) if key.kind in KINDS else ()


@derived("client_authorities", each(OBJECTS, _held))
def CLIENT_AUTHORITIES(key: ObjectKey, look: Look) -> Authorities | None:  # noqa: N802
    """The authorities in each ConfigMap and Secret that holds some."""
    if key.kind == "Secret":
        secret = find(look, Secret, key)
        pem = entry(secret.data, secret.string_data, ENTRY) if secret is not None else None
    else:
        found = find(look, ConfigMap, key)
        pem = entry(found.binary_data, found.data, ENTRY) if found is not None else None
    return Authorities(pem) if pem is not None and has_block(pem, b"CERTIFICATE") else None


@derived("client_authorities_states", each(OBJECTS, _held))
def CLIENT_AUTHORITIES_STATES(key: ObjectKey, look: Look) -> AuthoritiesState:  # noqa: N802
    """For each ConfigMap and Secret whether it holds authorities."""
    usable = look(CLIENT_AUTHORITIES, key) is not None
    return AuthoritiesState("" if usable else f"has no PEM certificate in data[{ENTRY!r}]")


def client_validation(look: Reader, gateway: Gateway, port: int) -> Judged:
    """How clients of a port of a Gateway are judged: by the port's own configuration, else by the default."""
    frontend = gateway.spec.tls.frontend if gateway.spec.tls is not None else None
    if frontend is None:
        return Judged()
    config = next((one.tls for one in frontend.per_port if one.port == port), frontend.default)
    if config.validation is None:
        return Judged()
    usable: list[ObjectKey] = []
    problems: list[Condition] = []
    for ref in config.validation.ca_certificate_refs:
        key = ObjectKey(ref.kind, ref.namespace or gateway.metadata.namespace, ref.name)
        problem = _problem(look, gateway.metadata.namespace, ref, key)
        if problem is not None:
            problems.append(problem)
        elif key not in usable:
            usable.append(key)
    if not usable:
        return Judged(None, tuple(problems))
    return Judged(ClientValidation(tuple(usable), _insecure(config.validation)), tuple(problems))


def insecure_mode(gateway: Gateway) -> Condition | None:
    """What a Gateway is told where some port lets clients in whose certificates are worth nothing."""
    frontend = gateway.spec.tls.frontend if gateway.spec.tls is not None else None
    configs: Iterable[FrontendTLSValidation | None] = (
        () if frontend is None else (frontend.default.validation, *(one.tls.validation for one in frontend.per_port))
    )
    if not any(one is not None and _insecure(one) for one in configs):
        return None
    said = "AllowInsecureFallback lets clients in whose certificates are missing or not to be trusted."
    return Condition("InsecureFrontendValidationMode", True, "ConfigurationChanged", said)


def _insecure(validation: FrontendTLSValidation) -> bool:
    return validation.mode == "AllowInsecureFallback"


def _problem(look: Reader, namespace: str, ref: ObjectReference, key: ObjectKey) -> Condition | None:
    def no(reason: str, said: str) -> Condition:
        return Condition("ResolvedRefs", False, reason, said)

    if ref.group != "" or ref.kind not in KINDS:
        said = f"caCertificateRefs names {ref.kind} {ref.name} of group {ref.group!r}; use a core ConfigMap or Secret."
        return no("InvalidCACertificateKind", said)
    if not permitted(look, Permission(GATEWAY_API, "Gateway", namespace, "", ref.kind, key.namespace, key.name)):
        said = f"{key} is in another namespace and no ReferenceGrant there permits Gateways of {namespace} to use it."
        return no("RefNotPermitted", said)
    state = look(CLIENT_AUTHORITIES_STATES, key)
    if state is None:
        return no("InvalidCACertificateRef", f"{key} does not exist.")
    return no("InvalidCACertificateRef", f"{key} {state.problem}.") if state.problem else None
