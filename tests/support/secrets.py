"""TLS Secrets whose contents have the shape of certificates and keys, and no more."""

from __future__ import annotations

import base64

PEM = """\
-----BEGIN CERTIFICATE-----
MIIBszCCAVmgAwIBAgIUQ0==
-----END CERTIFICATE-----
"""
KEY = """\
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIA==
-----END EC PRIVATE KEY-----
"""


def secret(
    name: str, namespace: str = "default", *, crt: str = PEM, key: str = KEY, type_: str = "kubernetes.io/tls"
) -> str:
    """A Secret as YAML."""
    data = {"tls.crt": crt, "tls.key": key}
    lines = [f"  {entry}: {base64.b64encode(value.encode()).decode()}" for entry, value in data.items()]
    return "\n".join(
        [f"kind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\ntype: {type_}\ndata:", *lines]
    )
