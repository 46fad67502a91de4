"""What is no object: platforms' rows, proxies, fetched keys, states of rollouts, as random changes."""

from __future__ import annotations

from hypothesis import strategies as st

from mesh.jwks import NOBODYS_KEYS
from mesh.model import (
    AUDIENCES,
    DISCOVERED_ENDPOINTS,
    DISCOVERED_SERVICES,
    KEY_SETS,
    MESH,
    PROVISIONED,
    ROLLOUT_STATES,
    Audience,
    Connected,
    DiscoveredEndpoints,
    DiscoveredEndpointsKey,
    DiscoveredService,
    DiscoveredServiceKey,
    Endpoint,
    KeySetRow,
    MeshSettings,
    ObjectKey,
    Provisioned,
    ProvisionedKey,
    RolloutState,
    ServicePort,
)
from mesh.tables import Change
from tests.support.configs.common import names, namespaces, services

_platforms = st.sampled_from(("kubernetes:one", "consul:dc1"))
discovered = st.builds(
    lambda source, namespace, name, row: Change(
        DISCOVERED_SERVICES, DiscoveredServiceKey(source, namespace, name), row
    ),
    _platforms,
    namespaces,
    services,
    st.none()
    | st.builds(
        DiscoveredService,
        ports=st.sampled_from(((ServicePort("http", 80, "HTTP"),), (ServicePort("other", 80, "TCP"),))),
        export_to=st.sampled_from(((), ("*",), ("blue",))),
    ),
)
discovered_endpoints = st.builds(
    lambda source, namespace, name, part, row: Change(
        DISCOVERED_ENDPOINTS, DiscoveredEndpointsKey(source, namespace, name, part), row
    ),
    _platforms,
    namespaces,
    services,
    names,
    st.none()
    | st.builds(
        lambda addresses: DiscoveredEndpoints(
            tuple(
                Endpoint(at, (("http", 8080),), (("version", "v1"),), service_account="a", mesh_tls=at.endswith("1"))
                for at in sorted(addresses)
            )
        ),
        st.sets(st.sampled_from(("10.1.0.1", "10.1.0.2")), max_size=2),
    ),
)
provisioned = st.builds(
    lambda namespace, name, row: Change(PROVISIONED, ProvisionedKey(namespace, name, "kubernetes:one"), row),
    namespaces,
    names,
    st.none() | st.builds(Provisioned, addresses=st.sampled_from(((), ("10.9.0.1",))), ready=st.booleans()),
)
audiences = st.builds(
    lambda audience, row: Change(AUDIENCES, audience, row),
    st.one_of(
        st.tuples(namespaces, names, st.booleans(), st.sampled_from(("", "a"))).map(
            lambda at: Audience("gateway", *at[:2], sotw=at[2], zone=at[3])
        ),
        st.tuples(namespaces, services, st.booleans()).map(
            lambda at: Audience("sidecar", *at[:2], 80, 15006, 15001, mesh_tls=at[2])
        ),
        st.tuples(namespaces, st.sampled_from(("", "b"))).map(lambda at: Audience("grpc", at[0], zone=at[1])),
    ),
    st.none() | st.just(Connected()),
)

mesh = st.builds(
    lambda root, patched: Change(MESH, "", MeshSettings(root_namespace=root, envoy_patches=patched)),
    st.sampled_from(("root", "red")),
    st.booleans(),
)

key_sets = st.builds(
    lambda uri, row: Change(KEY_SETS, uri, row),
    st.sampled_from(("https://a.org/keys", "https://b.org/keys")),
    st.sampled_from((None, KeySetRow(problem="away"), KeySetRow(NOBODYS_KEYS), KeySetRow(NOBODYS_KEYS, "away"))),
)

rollout_states = st.builds(
    lambda namespace, name, row: Change(ROLLOUT_STATES, ObjectKey("Rollout", namespace, name), row),
    namespaces,
    names,
    st.none()
    | st.builds(
        RolloutState,
        moves=st.sampled_from(("a", "b")),
        phase=st.sampled_from(("Pending", "Progressing", "Promoted", "RolledBack")),
        step=st.integers(0, 1),
        weight=st.sampled_from((0, 25, 100)),
    ),
)
