"""Secret: what Kubernetes asks of one. Messages never show values."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode

from mesh.kinds.secret import TLS_TYPE, Secret
from mesh.problems import Report, child, shown

MAX_SIZE = 1024 * 1024

_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")


def check_secret(secret: Secret, report: Report) -> None:
    """Judge a Secret; whether its certificate and key fit together is found out where they are used."""
    values: dict[str, bytes] = {}
    for key, text in secret.data.items():
        _check_key(key, "data", report)
        try:
            values[key] = b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            fix = "encode it with `base64`, or put it as it is under `stringData`"
            report.error("InvalidFormat", child("data", key), "it is not base64", fix)
    for key, text in secret.string_data.items():
        _check_key(key, "stringData", report)
        values[key] = text.encode("utf-8", "replace")
    size = sum(len(value) for value in values.values())
    if size > MAX_SIZE:
        message = f"it holds {size} bytes, at most {MAX_SIZE} are allowed"
        report.error("TooLong", "data", message, "keep only the certificate and its key")
    if secret.type == TLS_TYPE:
        for key, marker in (("tls.crt", b"CERTIFICATE-----"), ("tls.key", b"PRIVATE KEY-----")):
            path = child("data", key)
            if key not in values and key not in secret.data:
                message = f"a Secret of type {TLS_TYPE} needs `{key}`"
                report.error("MissingField", path, message, f"add `{key}` under `data` (base64) or `stringData`")
            elif key in values and marker not in values[key]:
                message = f"`{key}` holds no PEM block that ends in `{marker.decode()}`"
                report.warning("InvalidCertificate", path, message, "put the PEM text there")


def _check_key(key: str, field: str, report: Report) -> None:
    if not _KEY.fullmatch(key):
        message = f"'{shown(key)}' is not a key of a Secret"
        report.error("InvalidFormat", child(field, key), message, "write letters, digits, '-', '_' and '.'")
