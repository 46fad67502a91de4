"""Secrets over SDS: the certificates of HTTPS listeners, named `<namespace>/<name>` as their objects are."""

from __future__ import annotations

from typing import Any

from mesh.certificates import KeyPair, SecretKey
from mesh.client_policies import Revocations
from xds.schema.types import CertificateValidationContext, Secret
from xds.translate.root_certificates import NOBODY


def secret_name(key: SecretKey) -> str:
    """The SDS name of a Secret object."""
    return f"{key.namespace}/{key.name}"


def secret_key(name: str) -> SecretKey:
    """The Secret object that an SDS name means."""
    namespace, _, secret = name.partition("/")
    return SecretKey(namespace, secret)


def authorities_secret(name: str, pem: bytes, *, insecure: bool, revoked: Revocations | None = None) -> Any:
    """The secret by which clients are judged. `insecure`: who cannot be trusted is let in all the same.

    Where it is not known which certificates were taken back, nobody is trusted.
    """
    secret = Secret()
    secret.name = name
    secret.validation_context.trusted_ca.inline_bytes = NOBODY if revoked is not None and revoked.problem else pem
    if revoked is not None and not revoked.problem:
        secret.validation_context.crl.inline_bytes = revoked.pem
        secret.validation_context.only_verify_leaf_cert_crl = revoked.only_leaf
    if insecure:
        secret.validation_context.trust_chain_verification = CertificateValidationContext.ACCEPT_UNTRUSTED
    return secret


def certificate_secret(name: str, pair: KeyPair) -> Any:
    """The secret with a certificate chain and its private key."""
    secret = Secret()
    secret.name = name
    secret.tls_certificate.certificate_chain.inline_bytes = pair.chain
    secret.tls_certificate.private_key.inline_bytes = pair.key.pem
    return secret
