"""An authority as files that somebody else renews: `tls.crt`, `tls.key` and `ca.crt`, as cert-manager mounts them.

They are read through `..data`, so that all three are of one moment, and a set that does not fit is not taken: what was
read last stands. A new set follows the old one by `sds/rotation.py`: where its root is another, it signs only once
proxies trust it, and the old one, whose key is gone from the folder, goes on until then.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509

from mesh.spiffe import TrustDomain
from sds.certificates import Signer, UnusableAuthority, read_signer, to_pem
from sds.keys import read_key
from sds.lint import MALFORMED
from sds.outer import read_roots

CHAIN: Final = "tls.crt"
KEY: Final = "tls.key"
ROOTS: Final = "ca.crt"
_DATA: Final = "..data"


class Mounted(NamedTuple):
    """What the files say: who signs, and all that is to be trusted."""

    signer: Signer
    roots: tuple[bytes, ...]


def read_mounted(folder: Path, trust_domain: TrustDomain) -> Mounted:
    """What is in the folder now.

    Raises:
        UnusableAuthority: files are missing, cannot be read, or do not fit each other; shows no key.
    """
    data = folder / _DATA
    try:
        place = data.resolve(strict=True) if data.exists() else folder
        chain, key, roots = ((place / name).read_bytes() for name in (CHAIN, KEY, ROOTS))
    except OSError as error:
        raise UnusableAuthority(f"{error.filename}: {error.strerror or error}") from None
    try:
        trusted = read_roots(roots, trust_domain)
        return Mounted(read_signer(_whole(chain, trusted), read_key(key), trust_domain), trusted)
    except MALFORMED as error:
        raise UnusableAuthority(f"{folder}: {error}") from None


def stamp(folder: Path) -> tuple[object, ...]:
    """What is another one when the files are; costs a few calls and reads nothing."""
    found: list[object] = []
    for name in (CHAIN, KEY, ROOTS):
        try:
            about = (folder / name).stat()
        except OSError as error:
            found.append(error.errno)
        else:
            found.append((about.st_ino, about.st_mtime_ns, about.st_size))
    return tuple(found)


def _whole(chain: bytes, roots: tuple[bytes, ...]) -> bytes:
    """The chain up to a root; cert-manager leaves the root out of it."""
    found = x509.load_pem_x509_certificates(chain)
    last = found[-1]
    if last.issuer == last.subject:
        return chain
    for root in roots:
        candidate = x509.load_pem_x509_certificate(root)
        if candidate.subject == last.issuer:
            return b"".join(to_pem(one) for one in found) + root
    raise UnusableAuthority(f"{CHAIN} leads to no root in {ROOTS}")
