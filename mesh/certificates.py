"""Certificates for listeners, from `Secret` objects of type `kubernetes.io/tls`.

Two tables, because a renewed certificate must reach Envoy and nothing else: whether a Secret is usable (what gateways
and statuses read) and the key pair itself (what the secret resource is made from). Only the shape is judged here;
whether key and certificate fit each other is for Envoy to say, and its refusal comes back as a status.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from mesh.kinds.secret import TLS_TYPE
from mesh.kinds.secret import Secret as SecretObject
from mesh.model import Declared, ObjectKey
from mesh.objects import OBJECTS, find
from mesh.tables import Look, derived, each

_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s+(.*?)-----END \1-----", re.DOTALL)
_DER_SEQUENCE = 0x30


class SecretKey(NamedTuple):
    """The name of a Secret."""

    namespace: str
    name: str


class PrivateKey(msgspec.Struct, frozen=True):
    """A private key in PEM, which no log or message can show by accident."""

    pem: bytes

    def __repr__(self) -> str:
        return "[redacted]"


class KeyPair(msgspec.Struct, frozen=True):
    """A certificate chain in PEM and its private key."""

    chain: bytes
    key: PrivateKey


class Certificate(msgspec.Struct, frozen=True):
    """Whether a Secret can serve as a listener's certificate: `problem` is empty, or says why not."""

    problem: str = ""


def _secret(key: ObjectKey, _row: Declared) -> tuple[SecretKey, ...]:
    return (SecretKey(key.namespace, key.name),) if key.kind == "Secret" else ()


def _pair(look: Look, key: SecretKey) -> KeyPair | str | None:
    """The key pair of a Secret, or why there is none; None where there is no such Secret."""
    secret = find(look, SecretObject, ObjectKey("Secret", key.namespace, key.name))
    if secret is None:
        return None
    if secret.type != TLS_TYPE:
        return f"is of type {secret.type!r}; a listener needs {TLS_TYPE!r}"
    chain = entry(secret.data, secret.string_data, "tls.crt")
    pem = entry(secret.data, secret.string_data, "tls.key")
    if chain is None or not has_block(chain, b"CERTIFICATE"):
        return "has no PEM certificate in data['tls.crt']"
    if pem is None or not has_block(pem, b"PRIVATE KEY"):
        return "has no PEM private key in data['tls.key']"
    return KeyPair(chain=chain, key=PrivateKey(pem))


def entry(data: Mapping[str, str], text: Mapping[str, str], name: str) -> bytes | None:
    """An entry of a Secret or ConfigMap, out of its base64 `data` or its `text`, which wins as in Kubernetes."""
    if name in text:
        return text[name].encode()
    try:
        return base64.b64decode(data[name], validate=True) if name in data else None
    except binascii.Error:
        return None


def has_block(pem: bytes, kind: bytes) -> bool:
    """Whether there is a block of the kind (`RSA PRIVATE KEY` is a `PRIVATE KEY` too), and all such blocks are DER."""
    bodies = [body for label, body in _PEM_BLOCK.findall(pem) if label.endswith(kind)]
    return bool(bodies) and all(_is_der(body) for body in bodies)


def _is_der(body: bytes) -> bool:
    try:
        der = base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        return False
    return len(der) > 1 and der[0] == _DER_SEQUENCE


@derived("key_pairs", each(OBJECTS, _secret))
def KEY_PAIRS(key: SecretKey, look: Look) -> KeyPair | None:  # noqa: N802
    """The key pairs of all usable TLS Secrets."""
    pair = _pair(look, key)
    return pair if isinstance(pair, KeyPair) else None


@derived("certificates", each(OBJECTS, _secret))
def CERTIFICATES(key: SecretKey, look: Look) -> Certificate | None:  # noqa: N802
    """For each Secret whether a listener can use it."""
    if look(KEY_PAIRS, key) is not None:
        return Certificate()
    pair = _pair(look, key)
    return Certificate(problem=pair) if isinstance(pair, str) else None
