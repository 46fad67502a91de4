"""Which release of Gateway API the definitions (CRDs) in a cluster are of, and what a GatewayClass says of that.

An adapter of Kubernetes writes the rows; where nothing is known (files, REST, no permission to look) nothing is said.
What is of a release that we were not tried with is served as well as it goes: `SupportedVersion` is False, and
`Accepted` stays as it is.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from mesh.conditions import Condition
from mesh.tables import Input, Reader

SUPPORTED = ((1, 6),)
EXPERIMENTAL = "experimental"

_RELEASE = re.compile(r"v(\d{1,4})\.(\d{1,4})\.\d{1,4}([-+].*)?", re.DOTALL)


class DefinitionKey(NamedTuple):
    """A definition in the cluster of a source: `gateways.gateway.networking.k8s.io`."""

    source: str
    name: str


class Definition(msgspec.Struct, frozen=True):
    """Its annotations `bundle-version` and `channel`, empty where it has none."""

    release: str
    channel: str


DEFINITIONS: Input[DefinitionKey, Definition] = Input("definitions")
DEFINITIONS_BY_SOURCE = DEFINITIONS.index("source", lambda key, _: (key.source,))


def supported_version(look: Reader, source: str) -> Condition | None:
    """The condition SupportedVersion of a GatewayClass that a source declares; None where nothing is known."""
    keys = look.keys(DEFINITIONS_BY_SOURCE, source)
    if not keys:
        return None
    rows = ((key.name, look(DEFINITIONS, key)) for key in keys)
    wrong = [f"{name} is of {row.release or 'no release'}" for name, row in rows if row is not None and not _known(row)]
    if not wrong:
        return Condition("SupportedVersion", True, "SupportedVersion")
    known = ", ".join(f"v{major}.{minor}" for major, minor in SUPPORTED)
    said = f"{'; '.join(wrong)}. Tried was {known}; other releases are served as well as it goes."
    return Condition("SupportedVersion", False, "UnsupportedVersion", said)


def serves_experimental(look: Reader, source: str) -> bool:
    """Whether fields of the experimental channel reach us from a source: unless its HTTPRoute is known to lack them."""
    row = look(DEFINITIONS, DefinitionKey(source, "httproutes.gateway.networking.k8s.io"))
    return row is None or row.channel == EXPERIMENTAL


def _known(row: Definition) -> bool:
    release = _RELEASE.fullmatch(row.release)
    return release is not None and (int(release[1]), int(release[2])) in SUPPORTED
