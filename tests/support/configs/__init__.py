"""Random small configurations for property tests: few names, so that objects meet, refer and clash."""

from __future__ import annotations

from hypothesis import strategies as st

from mesh.model import MESH, MeshSettings
from mesh.tables import Change
from tests.support.configs.common import NAMESPACES
from tests.support.configs.declarations import declarations, declare
from tests.support.configs.rows import (
    audiences,
    discovered,
    discovered_endpoints,
    key_sets,
    mesh,
    provisioned,
    rollout_states,
)

changes = st.one_of(
    declarations,
    declarations,
    declarations,
    discovered,
    discovered_endpoints,
    audiences,
    provisioned,
    mesh,
    key_sets,
    rollout_states,
)

# A world in which most references lead somewhere, so that random changes to it cut and join them.
BASE = [
    Change(MESH, "", MeshSettings(root_namespace="root", envoy_patches=True)),
    *(
        change
        for namespace in NAMESPACES
        for change in (
            declare(
                "Gateway",
                namespace,
                "x",
                {
                    "gatewayClassName": "fairlead",
                    "allowedListeners": {"namespaces": {"from": "All"}},
                    "listeners": [
                        {
                            "name": "l0",
                            "port": 80,
                            "protocol": "HTTP",
                            "allowedRoutes": {"namespaces": {"from": "All"}},
                        },
                        {"name": "l1", "port": 80, "protocol": "HTTP", "hostname": "*.a.com"},
                    ],
                },
            ),
            declare("Service", namespace, "s", {"ports": [{"name": "http", "port": 80}]}),
            declare(
                "HTTPRoute",
                namespace,
                "r",
                {"parentRefs": [{"name": "x"}], "rules": [{"backendRefs": [{"name": "s", "port": 80}]}]},
            ),
        )
    ),
]
batches = st.lists(st.lists(changes, min_size=1, max_size=6), min_size=1, max_size=8).map(lambda steps: [BASE, *steps])
