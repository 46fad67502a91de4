"""The API over HTTPS: with a certificate of our own authority, or with that in the files of the xDS server."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fairlead.settings import Settings

if TYPE_CHECKING:
    from fairlead.identities.identity_way import IdentityWay


def api_tls(settings: Settings, way: IdentityWay | None) -> Callable[[], ssl.SSLContext] | None:
    """How the API's connections are secured, asked for once there are certificates; None: not at all."""
    if not settings.api_tls:
        return None
    from sds.tls import renewing_context

    if settings.xds_cert:
        from fairlead.identities.bundle_endpoint import PairOfFiles

        files = PairOfFiles(Path(settings.xds_cert), Path(settings.xds_key), flags="--xds-cert, --xds-key")
        return lambda: renewing_context(files.current)
    assert way is not None
    return lambda: renewing_context(way.api_pair)
