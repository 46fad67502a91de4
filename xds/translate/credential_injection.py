"""Credentials for backends: the `credential_injector` filter of a cluster, which asks for its secret over ADS.

It stands in the cluster, and not in the route: there Envoy starts what asks for a secret, and has requests wait until
the secret is there. What looks at requests before, as authorizers do, never sees it, nor do mirrors. Envoy writes it
into the request that it keeps, though: what is filled in later by `%REQ(...)%`, in answers and logs, does.
"""

from __future__ import annotations

from typing import Any

from mesh.kinds.routepolicy import CredentialInjection
from mesh.model import ObjectKey
from xds.schema import message, pack
from xds.schema.types import ApiVersion, Secret
from xds.translate.names import credential_name

_Injector = message("envoy.extensions.filters.http.credential_injector.v3.CredentialInjector")
_Generic = message("envoy.extensions.http.injected_credentials.generic.v3.Generic")
_UpstreamCodec = message("envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec")


def add_credential(options: Any, wanted: CredentialInjection, said_by: ObjectKey) -> None:
    """Have requests get a credential, in the `HttpProtocolOptions` of a cluster."""
    generic = _Generic()
    generic.credential.name = credential_name(said_by)
    generic.credential.sds_config.ads.SetInParent()
    generic.credential.sds_config.resource_api_version = ApiVersion.V3
    generic.header = wanted.header.lower()
    generic.header_value_prefix = wanted.prefix
    injector = _Injector()
    injector.overwrite = wanted.overwrite
    injector.credential.name = "envoy.http.injected_credentials.generic"
    injector.credential.typed_config.CopyFrom(pack(generic))
    filters = (
        ("envoy.filters.http.credential_injector", injector),
        ("envoy.filters.http.upstream_codec", _UpstreamCodec()),
    )
    for name, config in filters:
        added = options.http_filters.add()
        added.name = name
        added.typed_config.CopyFrom(pack(config))


def credential_secret(name: str, value: bytes) -> Any:
    """The secret with a credential."""
    secret = Secret()
    secret.name = name
    secret.generic_secret.secret.inline_bytes = value
    return secret
