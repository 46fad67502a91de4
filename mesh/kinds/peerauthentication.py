"""PeerAuthentication of `fairlead.dev/v1alpha1`: whether workloads are reached over mutual TLS, in plaintext, or both.

Without a `selector` it is for all workloads of its namespace; in the root namespace, for the whole mesh.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from mesh.kinds.fields import END
from mesh.kinds.meta import Object, Spec
from mesh.kinds.selectors import LabelSelector

Mode = Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]
PortKey = Annotated[
    str,
    Meta(pattern=rf"^[1-9][0-9]{{0,4}}{END}", description="the number at which endpoints serve the port"),
]


class PeerMutualTLS(Spec, frozen=True, kw_only=True):
    """STRICT takes mutual TLS only, PERMISSIVE plaintext too; with DISABLE clients send plaintext. UNSET inherits."""

    mode: Mode = "UNSET"


class PeerAuthenticationSpec(Spec, frozen=True, kw_only=True):
    """The workloads, the mode, and other modes for some of their ports."""

    selector: LabelSelector | None = None
    mtls: PeerMutualTLS = PeerMutualTLS()
    port_level_mtls: Annotated[dict[PortKey, PeerMutualTLS], Meta(max_length=64)] = field(default_factory=dict)


class PeerAuthentication(Object, frozen=True, kw_only=True):
    """`fairlead.dev/v1alpha1` PeerAuthentication."""

    api_version: Literal["fairlead.dev/v1alpha1"]
    kind: Literal["PeerAuthentication"]
    spec: PeerAuthenticationSpec = PeerAuthenticationSpec()
