"""The authorities that this machine trusts, for BackendTLSPolicies with `wellKnownCACertificates: System`.

Read here and handed to proxies over SDS, so that it does not matter what is installed beside them. Read once, at start.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from mesh.certificates import has_block
from mesh.model import SystemTrust

# Where distributions keep all authorities in one file, for a Python that was built elsewhere.
_USUAL = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_MOST_BYTES = 4_000_000


def system_trust() -> SystemTrust | None:
    """The first store that there is: `SSL_CERT_FILE`, OpenSSL's own, or a usual one; None where there is none."""
    known = ssl.get_default_verify_paths().cafile
    for path in ((known,) if known else ()) + _USUAL:
        try:
            pem = Path(path).read_bytes()
        except OSError:
            continue
        if len(pem) <= _MOST_BYTES and has_block(pem, b"CERTIFICATE"):
            return SystemTrust(pem)
    return None
