"""What a sidecar offers its workload beside HTTP: ports on loopback, each for a TCP port of a service.

A Host header tells requests apart, and nothing tells connections apart but the port they come to. So whoever starts the
sidecar says which port stands for which service, as `5432=shop/db:5432`; without `shop/` it is the sidecar's namespace.
"""

from __future__ import annotations

import re

from mesh.model import Upstream

MOST = 64
FORM = "LISTEN=[NAMESPACE/]SERVICE:PORT"
_FORM = re.compile(r"([0-9]{1,5})=(?:([^/:=]{1,253})/)?([^/:=]{1,253}):([0-9]{1,5})")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_HIGHEST = 65_535


def read_upstream(text: str, namespace: str) -> Upstream | None:
    """What a text says, of a sidecar in a namespace; None where it has not the form."""
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    listen, spaced, service, port = found.groups()
    made = Upstream(int(listen), spaced or namespace, service, int(port))
    right = all(0 < number <= _HIGHEST for number in (made.listen, made.port))
    return made if right and all(map(_NAME.fullmatch, (made.namespace, service))) else None


def written(upstream: Upstream) -> str:
    """The text that `read_upstream` reads."""
    return f"{upstream.listen}={upstream.namespace}/{upstream.service}:{upstream.port}"
