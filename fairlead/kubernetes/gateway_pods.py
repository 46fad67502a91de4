"""What the proxies of a Gateway find in their pods: bootstraps, and where token and authority are (see `provision.py`).

Pure. The adapter of Kubernetes makes the pods and knows nothing of Envoy's configuration; here is the other half.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from discovery.kubernetes.provision import (
    BOOTSTRAP,
    CA,
    CONFIG_DIR,
    DRAIN,
    TOKEN,
    TOKEN_DIR,
    Files,
    drain_seconds,
)
from fairlead.addresses import Address
from fairlead.bootstraps.bootstrap import ProxyIdentity, Readiness, Token, envoy_bootstrap, token_files
from fairlead.bootstraps.drain import drain_bootstrap
from fairlead.bootstraps.overload import HEAP_PERCENT
from mesh.kinds.gateway import Gateway
from mesh.kinds.gatewayparameters import GatewayParametersSpec
from mesh.provisioning import READY_PORT
from mesh.validations.gatewayparameters import amount

_ADMIN = "@fairlead-admin"  # an abstract Unix socket: it needs no file system, and no port that a route could lead to


def files_for(
    xds: Address, *, server_name: str, ca: Callable[[], bytes]
) -> Callable[[Gateway, GatewayParametersSpec], Files | None]:
    """What makes the files of any Gateway's proxies, which reach the control plane at `xds`.

    `server_name` is the name that its certificate must carry, `ca` tells the authorities (PEM) to trust, and as long as
    there are none, there are no files. The instance in the proxy's identity is the pod's name, which a flag of Envoy
    puts in place of the one that stands here.
    """

    def render(gateway: Gateway, parameters: GatewayParametersSpec) -> Files | None:
        trusted = ca().decode()
        if not trusted:
            return None
        metadata = gateway.metadata
        bootstrap = envoy_bootstrap(
            ProxyIdentity(kind="gateway", name=metadata.name, namespace=metadata.namespace),
            xds=xds,
            admin_socket=_ADMIN,
            token=Token(CONFIG_DIR, server_name),
            readiness=Readiness(port=READY_PORT, host="::"),
            max_heap=_heap(parameters),
            report_times=bool(parameters.report_times),
        )
        documents = {
            BOOTSTRAP: bootstrap,
            DRAIN: drain_bootstrap(_ADMIN, drain_seconds(parameters)),
            **token_files(token=f"{TOKEN_DIR}/{TOKEN}", ca=f"{CONFIG_DIR}/{CA}"),
        }
        return Files({name: _text(document) for name, document in sorted(documents.items())}, trusted)

    return render


def _heap(parameters: GatewayParametersSpec) -> int | None:
    """How large the heap may become, in bytes, where the pods' memory is limited."""
    limits = (parameters.resources.limits if parameters.resources is not None else None) or {}
    return int(amount(limits["memory"]) * HEAP_PERCENT / 100) if "memory" in limits else None


def _text(document: object) -> str:
    return msgspec.json.format(msgspec.json.encode(document), indent=1).decode()
