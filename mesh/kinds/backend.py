"""Backend of `fairlead.dev/v1alpha1`: a destination outside the catalog, which no source tells of.

Whoever may write one chooses where proxies connect to, from where they run; `mesh.validations.backend` says what is
refused, and `docs/how-to/outside-destinations.md` what that is worth.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mesh.kinds.fields import Hostname, PortNumber, PreciseHostname
from mesh.kinds.meta import Object, Spec
from mesh.kinds.service import ServiceProtocol


class FQDNEndpoint(Spec, frozen=True, kw_only=True):
    """A DNS name, whose addresses the proxies look up themselves, and keep looking up."""

    hostname: PreciseHostname
    port: PortNumber


class IPEndpoint(Spec, frozen=True, kw_only=True):
    """An IP address and port."""

    address: Annotated[str, Meta(min_length=1, max_length=45)]
    port: PortNumber


class UnixEndpoint(Spec, frozen=True, kw_only=True):
    """A socket in the file system of the proxy."""

    path: Annotated[str, Meta(min_length=2, max_length=107)]


class BackendEndpoint(Spec, frozen=True, kw_only=True):
    """One place to connect to; exactly one of the fields."""

    fqdn: FQDNEndpoint | None = None
    ip: IPEndpoint | None = None
    unix: UnixEndpoint | None = None


class DynamicResolver(Spec, frozen=True, kw_only=True):
    """Clients choose the destination, and its port, by the `Host` of each request, among these hostnames.

    Names that resolve to addresses of private networks lead nowhere, unless they are allowed.
    """

    hostnames: Annotated[tuple[Hostname, ...], Meta(min_length=1, max_length=16)]
    allow_private_addresses: bool = False


class BackendSpec(Spec, frozen=True, kw_only=True):
    """Where it is: `endpoints`, all alike to the load balancer, or `dynamicResolver`."""

    protocol: ServiceProtocol = "HTTP"
    endpoints: Annotated[tuple[BackendEndpoint, ...], Meta(max_length=64)] = ()
    dynamic_resolver: DynamicResolver | None = None


class Backend(Object, frozen=True, kw_only=True):
    """`fairlead.dev/v1alpha1` Backend; a backendRef names it without a port."""

    api_version: Literal["fairlead.dev/v1alpha1"]
    kind: Literal["Backend"]
    spec: BackendSpec
