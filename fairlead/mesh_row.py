"""What the settings say of the whole mesh, as the model takes it."""

from __future__ import annotations

from fairlead.settings import Settings
from mesh.model import MeshSettings


def mesh_row(settings: Settings) -> MeshSettings:
    """The row of `MESH`."""
    return MeshSettings(
        root_namespace=settings.root_namespace,
        trust_domain=settings.trust_domain,
        first_bytes_wait=settings.first_bytes_wait,
        envoy_patches=settings.envoy_patches,
        route_code=settings.route_code,
    )
