"""End users' tokens: RequestAuthentications as `jwt_authn`, and the headers that only it may write.

Both filters get their configuration over ECDS, so that neither a policy nor an issuer's new key changes a listener or
drains a connection. Routes name a requirement (`set_requirement`); what it means is in the filter's configuration,
which each gateway and each workload has of its own. A name that the filter does not know is answered 403.

What is said of one issuer is a provider; its name is the issuer's and a hash of the rest. A requirement that is not
`required` takes any of its providers or no token at all, and a token of an unknown issuer is none of both. A
requirement that nobody can meet, since it names no issuer, asks for the token of `NOBODY`.

Headers with claims are taken off every request at first, whatever route it takes: what a backend reads there was
verified or is not there (CVE-2020-8843 was such a header). Preflights of CORS carry no tokens and pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from mesh.jwks import NOBODYS_KEYS
from mesh.kinds.requestauthentication import JWTRule
from mesh.request_authentication import Guarded
from xds.schema import message, pack
from xds.schema.types import ApiVersion
from xds.translate.http_filters import IDENTITY_HEADERS, JWT_AUTHN, Filter, discovered_filter

_JwtAuthentication = message("envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication")
_PerRouteConfig = message("envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig")
_JwtRequirement = message("envoy.extensions.filters.http.jwt_authn.v3.JwtRequirement")
_HeaderMutation = message("envoy.extensions.filters.http.header_mutation.v3.HeaderMutation")
_ExtensionConfigSource = message("envoy.config.core.v3.ExtensionConfigSource")

NOBODY: Final = "nobody"
NOBODYS_HEADER: Final = "x-fairlead-nobody"
_ENCODER = msgspec.json.Encoder(order="deterministic")


class Demand(msgspec.Struct, frozen=True):
    """Whose tokens are taken, with their keys, and whether a request needs one."""

    issuers: tuple[tuple[JWTRule, bytes], ...]
    required: bool


def _source(type_name: str) -> Any:
    source = _ExtensionConfigSource()
    source.config_source.ads.SetInParent()
    source.config_source.resource_api_version = ApiVersion.V3
    source.type_urls.append(f"type.googleapis.com/{type_name}")
    return source


FILTERS: Final[tuple[Filter, ...]] = (
    discovered_filter(IDENTITY_HEADERS, _source(_HeaderMutation.DESCRIPTOR.full_name)),
    discovered_filter(JWT_AUTHN, _source(_JwtAuthentication.DESCRIPTOR.full_name)),
)
"""Both filters, for every chain behind which a policy may hold."""


def requirement_name(section: str, guarded: Guarded) -> str:
    """The name of a requirement at a gateway: by what it is for, and the listener where that makes a difference."""
    if guarded.route:
        name = f"{guarded.kind}/{guarded.namespace}/{guarded.route}" + (f"/{guarded.rule}" if guarded.rule else "")
    elif guarded.namespace:
        name = f"Namespace/{guarded.namespace}"
    else:
        name = "*"
    return f"{section}:{name}" if section else name


def set_requirement(message_: Any, name: str) -> None:
    """Let a `Route` or `VirtualHost` ask for what is known under that name."""
    wanted = _PerRouteConfig()
    wanted.requirement_name = name
    message_.typed_per_filter_config[JWT_AUTHN].CopyFrom(pack(wanted))


def jwt_authentication(everywhere: Demand | None, named: Mapping[str, Demand]) -> Any:
    """The filter's configuration: what holds where no route names anything, and what the names mean."""
    made = _JwtAuthentication()
    made.bypass_cors_preflight = True
    for demand in (*([everywhere] if everywhere is not None else []), *named.values()):
        for rule, keys in demand.issuers:
            _set_provider(made.providers[_provider_name(rule)], rule, keys)
    if everywhere is not None or named:
        _set_nobody(made.providers[NOBODY])
    if everywhere is not None:
        rule = made.rules.add()
        rule.match.prefix = "/"
        rule.requires.CopyFrom(_requirement(everywhere))
    for name in sorted(named):
        made.requirement_map[name].CopyFrom(_requirement(named[name]))
    return made


def identity_headers(demands: Iterable[Demand]) -> Any:
    """The other filter's configuration: which headers of a request nobody but the proxy may write."""
    made = _HeaderMutation()
    names = {name for demand in demands for rule, _ in demand.issuers for name in written_headers(rule)}
    for name in sorted({*names, NOBODYS_HEADER} if names else ()):
        made.mutations.request_mutations.add().remove = name
    return made


def written_headers(rule: JWTRule) -> Iterable[str]:
    """The headers in which backends get what a token says."""
    if rule.output_payload_to_header is not None:
        yield rule.output_payload_to_header.lower()
    yield from (one.header.lower() for one in rule.output_claim_to_headers)


def _provider_name(rule: JWTRule) -> str:
    return f"{rule.issuer}~{hashlib.sha256(_ENCODER.encode(rule)).hexdigest()[:12]}"


def _set_provider(provider: Any, rule: JWTRule, keys: bytes) -> None:
    provider.issuer = rule.issuer
    provider.audiences[:] = rule.audiences
    provider.local_jwks.inline_string = keys.decode()
    provider.forward = rule.forward_original_token
    del provider.from_headers[:], provider.from_params[:], provider.from_cookies[:], provider.claim_to_headers[:]
    for header in rule.from_headers:
        at = provider.from_headers.add()
        at.name = header.name.lower()
        at.value_prefix = header.prefix
    provider.from_params.extend(rule.from_params)
    provider.from_cookies.extend(rule.from_cookies)
    provider.forward_payload_header = (rule.output_payload_to_header or "").lower()
    for one in rule.output_claim_to_headers:
        claim = provider.claim_to_headers.add()
        claim.header_name = one.header.lower()
        claim.claim_name = one.claim


def _set_nobody(provider: Any) -> None:
    """Whose tokens are never valid, looked for where nobody can put one: the header is taken off before."""
    provider.local_jwks.inline_string = NOBODYS_KEYS.decode()
    provider.from_headers.add().name = NOBODYS_HEADER
    provider.forward = True


def _requirement(demand: Demand) -> Any:
    made = _JwtRequirement()
    providers = sorted({_provider_name(rule) for rule, _ in demand.issuers}) or [NOBODY]
    if demand.required and len(providers) == 1:
        made.provider_name = providers[0]
        return made
    for name in providers:
        made.requires_any.requirements.add().provider_name = name
    if not demand.required:
        made.requires_any.requirements.add().allow_missing.SetInParent()
    return made
