"""The table of secrets: certificates, authorities that others are judged by, and credentials for backends.

Who may have which is for views to say (`xds/translate/views.py`): a Gateway gets what its own listeners and the
clusters of its own routes need.
"""

from __future__ import annotations

from mesh.backend_tls import TLS_POLICIES
from mesh.certificates import KEY_PAIRS
from mesh.client_policies import CLIENT_RULES, NO_RULES, revocations
from mesh.client_validation import CLIENT_AUTHORITIES
from mesh.credentials import CREDENTIALS, credential_value
from mesh.gateways import GATEWAYS, Gateway, GatewayKey
from mesh.model import SYSTEM_TRUST, ObjectKey
from mesh.tables import Look, derived, each
from xds.resources import Resource, ResourceKey
from xds.schema import encode
from xds.schema.type_urls import TYPE_CLUSTER, TYPE_SECRET
from xds.translate.cluster_tables import USES, Use, UseKey
from xds.translate.credential_injection import credential_secret
from xds.translate.framing import resource
from xds.translate.names import (
    backend_authorities_name,
    backend_authorities_of,
    backend_of,
    client_authorities_name,
    client_authorities_of,
    credential_name,
    credential_of,
)
from xds.translate.root_certificates import root_secret
from xds.translate.secret import authorities_secret, certificate_secret, secret_key, secret_name


def _with_credential(key: UseKey, _row: Use) -> tuple[str, ...]:
    backend = backend_of(key.resource.name) if key.resource.type_url == TYPE_CLUSTER else None
    return (key.scope,) if backend is not None and backend.credential else ()


USES_WITH_CREDENTIAL = USES.index("credential", _with_credential)


def credential_keys(look: Look, scope: str) -> tuple[ResourceKey, ...]:
    """The credentials of the clusters that routes of a scope name, sorted."""
    backends = (backend_of(at.resource.name) for at in look.keys(USES_WITH_CREDENTIAL, scope))
    found = {backend.credential for backend in backends if backend is not None}
    return tuple(_credential(ObjectKey("RoutePolicy", *each.split("/"))) for each in sorted(found))


def _credential(policy: ObjectKey) -> ResourceKey:
    return ResourceKey(TYPE_SECRET, credential_name(policy))


def secret_keys(key: GatewayKey, gateway: Gateway) -> tuple[ResourceKey, ...]:
    """The secrets that a Gateway's listeners use, sorted."""
    used: set[str] = set()
    for listener in gateway.listeners:
        if listener.programmed:
            used.update(secret_name(certificate) for certificate in listener.certificates)
            if listener.clients is not None:
                used.add(client_authorities_name(*key, listener.port))
    if gateway.client_certificate is not None:
        used.add(secret_name(gateway.client_certificate))
    return tuple(ResourceKey(TYPE_SECRET, name) for name in sorted(used))


def policy_secret(policy: ObjectKey) -> ResourceKey:
    """The authorities of a BackendTLSPolicy."""
    return ResourceKey(TYPE_SECRET, backend_authorities_name(policy))


@derived(
    "secrets",
    each(GATEWAYS, secret_keys),
    each(TLS_POLICIES, lambda key, _: (policy_secret(key),)),
    each(CREDENTIALS, lambda key, _: (_credential(key),)),
)
def SECRETS(key: ResourceKey, look: Look) -> Resource | None:  # noqa: N802
    """The certificates of gateways' listeners, the authorities that their clients are judged by, and credentials."""
    judging = client_authorities_of(key.name)
    if judging is not None:
        return _client_authorities(look, key, GatewayKey(*judging[:2]), judging[2])
    policy = backend_authorities_of(key.name)
    if policy is not None:
        return _backend_authorities(look, key, policy)
    injecting = credential_of(key.name)
    if injecting is not None:
        credential = look(CREDENTIALS, injecting)
        value = credential_value(look, injecting.namespace, credential.wanted) if credential is not None else ""
        if not isinstance(value, bytes):
            return None
        return resource(key.type_url, key.name, encode(credential_secret(key.name, value)))
    pair = look(KEY_PAIRS, secret_key(key.name))
    return resource(key.type_url, key.name, encode(certificate_secret(key.name, pair))) if pair is not None else None


def _backend_authorities(look: Look, key: ResourceKey, policy: ObjectKey) -> Resource | None:
    judged = look(TLS_POLICIES, policy)
    if judged is None:
        return None
    held = [look(CLIENT_AUTHORITIES, at) for at in judged.tls.authorities]
    parts = [authorities.pem for authorities in held if authorities is not None]
    system = look(SYSTEM_TRUST, "") if judged.tls.system else None
    if system is not None:
        parts.append(system.pem)
    return resource(key.type_url, key.name, encode(root_secret(key.name, b"\n".join(parts))))


def _client_authorities(look: Look, key: ResourceKey, gateway: GatewayKey, port: int) -> Resource | None:
    row = look(GATEWAYS, gateway)
    served = (one for one in row.listeners if one.programmed and one.port == port) if row is not None else ()
    clients = next((one.clients for one in served if one.clients is not None), None)
    if clients is None:
        return None
    held = (look(CLIENT_AUTHORITIES, at) for at in clients.authorities)
    pem = b"\n".join(authorities.pem for authorities in held if authorities is not None)
    revoked = revocations(look, look(CLIENT_RULES, gateway) or NO_RULES, port)
    secret = authorities_secret(key.name, pem, insecure=clients.insecure, revoked=revoked)
    return resource(key.type_url, key.name, encode(secret))
