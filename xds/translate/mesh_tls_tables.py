"""The clusters as proxies with a workload's certificate see them: with mutual TLS where endpoints can do it.

They bear the names of the plain ones and take their places in the views of such proxies (gateways and sidecars with an
agent); all others are not told of mutual TLS, whose certificates they could not get.
"""

from __future__ import annotations

from collections.abc import Iterable

from mesh.model import HTTP2_PROTOCOLS
from mesh.peer_authentication import PEER_IDENTITIES
from mesh.services import SERVICES
from mesh.tables import Look, derived, each
from xds.resources import Resource, ResourceKey
from xds.schema import message, unpack
from xds.translate.cluster_tables import CLUSTERS
from xds.translate.framing import encode_checked, resource
from xds.translate.mutual_tls import add_mutual_tls
from xds.translate.names import MESH_TLS, backend_of, host_of

_Any = message("google.protobuf.Any")


def _with_certificates(key: ResourceKey, _row: Resource) -> Iterable[ResourceKey]:
    return () if key.scope else (key._replace(scope=MESH_TLS),)


@derived("mesh_tls_clusters", each(CLUSTERS, _with_certificates))
def MESH_TLS_CLUSTERS(key: ResourceKey, look: Look) -> Resource | None:  # noqa: N802
    """Each cluster some of whose endpoints have a certificate. One that begins otherwise (PROXY) stays as it is."""
    backend = backend_of(key.name)
    if backend is None or backend.outside or backend.failover:
        return None
    identities = look(PEER_IDENTITIES, backend.service)
    if identities is None:
        return None
    plain = look(CLUSTERS, key._replace(scope=""))
    service = look(SERVICES, backend.service)
    port = service.port(backend.port) if service is not None else None
    if plain is None or port is None or port.protocol == "UDP":
        return None
    cluster = unpack(_Any.FromString(plain.any))
    if cluster.HasField("transport_socket"):
        return None
    http2 = backend.http2 or port.protocol in HTTP2_PROTOCOLS
    add_mutual_tls(cluster, identities.names, server_name=host_of(key.name), http2=http2)
    return resource(key.type_url, key.name, encode_checked(cluster), needs=set(plain.needs), eds=plain.eds)


MESH_TLS_CLUSTER_NAMES = MESH_TLS_CLUSTERS.index("all", lambda _key, _row: ("",))
