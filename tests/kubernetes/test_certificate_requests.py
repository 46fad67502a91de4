"""A signer in Kubernetes as the authority, with a real API server: what it demands of requests is not for us to guess.

The signer itself is played: it looks for approved requests of its name and answers them, as a controller would.
"""

# ruff: noqa: ASYNC240 - small files of a test

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import secrets
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from discovery.kubernetes.api import ApiError, UnreachableError
from discovery.kubernetes.connection import Connection
from discovery.kubernetes.credentials import KubeConfig
from mesh.spiffe import SpiffeId, TrustDomain
from sds.authority import AuthorityUnavailable
from sds.certificates import new_root, to_pem
from sds.keys import new_key
from sds.kubernetes_csr import PATH, KubernetesAuthority
from sds.lifetimes import Lifetimes
from tests.support.api_line import current
from tests.support.kubernetes import Cluster
from tests.support.outer import caller

TD = TrustDomain("example.org")
REVIEWS = SpiffeId(TD, "/ns/shop/sa/reviews")


def clock() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


async def sign_approved(cluster: Cluster, name: str, root: Any) -> None:
    """Answer approved requests of a signer, without end."""
    while True:
        for one in (await asyncio.to_thread(cluster.get, PATH))["items"]:
            status = one.get("status", {})
            approved = any(condition["type"] == "Approved" for condition in status.get("conditions", []))
            if one["spec"]["signerName"] != name or not approved or status.get("certificate"):
                continue
            asked = x509.load_pem_x509_csr(base64.b64decode(one["spec"]["request"]))
            names = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            [uri] = names.get_values_for_type(x509.UniformResourceIdentifier)
            life = dt.timedelta(seconds=one["spec"]["expirationSeconds"])
            chain = root.issue(asked.public_key(), SpiffeId.parse(uri), now=clock(), lifetime=life).chain
            one["status"]["certificate"] = base64.b64encode(chain).decode()
            path = f"{PATH}/{one['metadata']['name']}/status"
            with contextlib.suppress(AssertionError, OSError):  # it was taken away meanwhile
                await asyncio.to_thread(cluster.request, "PUT", path, one)
        await asyncio.sleep(0.05)


async def test_a_real_api_server_takes_approves_and_answers_our_requests(
    cluster: Cluster, kubeconfig: Path, tmp_path: Path
) -> None:
    signer = f"fairlead.dev/{secrets.token_hex(4)}"
    root = new_root(TD, new_key(), now=clock(), lifetime=dt.timedelta(days=30))
    roots = tmp_path / "roots.pem"
    roots.write_bytes(to_pem(root.certificate))
    connection = Connection(KubeConfig(str(kubeconfig)))
    authority = KubernetesAuthority(
        TD, lambda: connection, signer, roots, failures=(ApiError, UnreachableError), lifetimes=Lifetimes(), clock=clock
    )
    await authority.open()
    answering = asyncio.get_running_loop().create_task(sign_approved(cluster, signer, root))
    try:
        asks = caller(REVIEWS)
        issued = await authority.issue(asks.public_key, REVIEWS, request=asks.request)
        assert x509.load_pem_x509_certificates(issued.chain)[0].public_key() == asks.public_key
        left = [one["spec"]["signerName"] for one in cluster.get(PATH)["items"]]
        assert signer not in left
    finally:
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)
        await connection.close()


async def test_a_cluster_that_is_away_is_told(tmp_path: Path, kubeconfig: Path) -> None:
    root = new_root(TD, new_key(), now=clock(), lifetime=dt.timedelta(days=30))
    roots = tmp_path / "roots.pem"
    roots.write_bytes(to_pem(root.certificate))
    elsewhere = tmp_path / "config"
    config = yaml.safe_load(kubeconfig.read_text())
    current(config, "cluster")["server"] = "https://127.0.0.1:1"
    elsewhere.write_text(yaml.safe_dump(config))
    connection = Connection(KubeConfig(str(elsewhere)))
    authority = KubernetesAuthority(
        TD, lambda: connection, "fairlead.dev/x", roots, failures=(ApiError, UnreachableError),
        lifetimes=Lifetimes(), clock=clock,
    )  # fmt: skip
    await authority.open()
    asks = caller(REVIEWS)
    with pytest.raises(AuthorityUnavailable, match="cannot be asked to sign"):
        await authority.issue(asks.public_key, REVIEWS, request=asks.request)
    await connection.close()
