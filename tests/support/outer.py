"""What tests of outer authorities share: a caller with its request, and files as Kubernetes mounts them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.spiffe import SpiffeId
from sds.certificates import Signer, to_pem
from sds.keys import new_key, request_for


@dataclass(frozen=True)
class Caller:
    """A workload that asks for its certificate."""

    identity: SpiffeId
    public_key: Any
    request: bytes


def caller(identity: SpiffeId, asks_for: SpiffeId | None = None) -> Caller:
    """A caller with a key of its own; `asks_for` is what its request says, where that is something else."""
    key = new_key()
    return Caller(identity, key.public_key, request_for(key, asks_for or identity))


def mount(folder: Path, signer: Signer, *roots: Signer, number: int) -> None:
    """Write an authority's files as Kubernetes does: into a folder of its own, then one link is turned."""
    data = folder / f"..data_{number}"
    data.mkdir(parents=True)
    chain = signer.chain or (signer.certificate,)
    (data / "tls.crt").write_bytes(b"".join(to_pem(one) for one in chain))
    (data / "tls.key").write_bytes(signer.key.pem().pem)
    (data / "ca.crt").write_bytes(b"".join(to_pem(one.root) for one in roots or (signer,)))
    fresh = folder / "..data_tmp"
    fresh.symlink_to(data.name)
    os.replace(fresh, folder / "..data")
    for name in ("tls.crt", "tls.key", "ca.crt"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
