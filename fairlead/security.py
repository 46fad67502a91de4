"""Who may talk to the server: what settings must say before an address is opened, and the model of who (DESIGN §6)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from api import access as api_access
from fairlead.addresses import parse_address
from fairlead.errors import CommandError, UsageError
from fairlead.settings import Settings
from mesh.gateways import GATEWAYS, GatewayKey
from mesh.model import Audience, ServiceKey
from mesh.services import ENDPOINTS
from mesh.spiffe import TrustDomain
from mesh.tables import Engine
from xds.server.authentication import named_alike
from xds.server.server_certificates import ServerCertificate, Tls

TlsOf = Tls | Callable[[], ServerCertificate] | None
"""How xDS is protected: by files, by what is asked for each connection; None is plaintext, or another way in."""


def tokens_address(settings: Settings) -> str | None:
    """Where proxies that show a token come in: an address, empty for that of `xds`; None for nowhere.

    Raises:
        UsageError: nobody is there to review tokens, or the address is already something else.
    """
    if not settings.xds_tokens:
        certificates = settings.xds_cert or settings.xds_key or settings.xds_client_ca or settings.xds_workload_api
        return "" if settings.kubernetes and not settings.insecure_xds and not certificates else None
    parse_address(settings.xds_tokens, what="--xds-tokens")
    if not settings.kubernetes and not settings.ca:
        raise UsageError(
            "--xds-tokens: a cluster reviews tokens, and none is given. Fix: --kubernetes, or --ca for join tokens"
        )
    if not settings.kubernetes and (settings.insecure_xds or settings.xds_cert or settings.xds_workload_api):
        raise UsageError(
            "--xds-tokens: its certificate is one of --ca. Fix: leave --insecure-xds, --xds-cert and --xds-workload-api"
            " out"
        )
    if settings.xds_tokens == settings.xds:
        raise UsageError(
            "--xds-tokens and --xds are the same, and an address either demands certificates or does without."
            " Fix: two addresses"
        )
    return settings.xds_tokens


def xds_security(settings: Settings) -> TlsOf:
    """How xDS is protected; None is plaintext, asked for and on loopback, or by tokens alone (`tokens_address`).

    Raises:
        UsageError: neither that nor certificates; says what to do.
    """
    address = parse_address(settings.xds, what="--xds")
    given = {
        "--xds-cert": settings.xds_cert,
        "--xds-key": settings.xds_key,
        "--xds-client-ca": settings.xds_client_ca,
    }
    missing = [flag for flag, value in given.items() if not value]
    if settings.xds_workload_api:
        return _by_workload_api(settings, [*(flag for flag in given if flag not in missing)])
    if settings.insecure_xds:
        if len(missing) < len(given):
            raise UsageError("--insecure-xds and certificates exclude each other. Fix: leave one of them out")
        if not address.is_loopback:
            raise UsageError(
                f"--insecure-xds would serve xDS to everybody who can reach {address}."
                " Fix: --xds 127.0.0.1:18000, or --xds-cert, --xds-key and --xds-client-ca"
            )
        return None
    if len(missing) == len(given) and tokens_address(settings) == "":
        return None
    if len(missing) == len(given) and settings.ca:
        return None
    if missing:
        raise UsageError(
            f"xDS needs TLS, and {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not given."
            " Fix: give certificates; to try it on this machine alone: --insecure-xds"
        )
    for flag, path in given.items():
        if not os.access(path, os.R_OK):
            raise CommandError(f"{flag}: cannot read {path}. Fix: give a file that this user may read")
    return Tls(Path(settings.xds_cert), Path(settings.xds_key), Path(settings.xds_client_ca))


def _by_workload_api(settings: Settings, given: list[str]) -> TlsOf:
    given += [flag for flag, value in (("--insecure-xds", settings.insecure_xds), ("--ca", settings.ca)) if value]
    if given:
        raise UsageError(
            f"--xds-workload-api gives the server its certificate, and {', '.join(given)} another way. Fix: one of them"
        )
    from fairlead.identities.workload_api import WorkloadApi  # what judges certificates takes 9 MB

    return WorkloadApi(settings.xds_workload_api, TrustDomain(settings.trust_domain))


def by_own_authority(settings: Settings) -> bool:
    """Whether the xDS server shows a certificate of our own authority and believes those that it signed."""
    own = bool(settings.ca) and not (settings.xds_cert or settings.insecure_xds)
    return own and not (settings.kubernetes and not settings.xds_tokens)


def accounts_of(engine: Engine) -> Callable[[Audience], frozenset[str]]:
    """The service accounts that proxies of an audience run as, as the model says now; none where it does not say.

    A gateway's is told by its Gateway (as long as there is none, by its name), a sidecar's by the endpoints of its
    service. Reads single rows only, so that it may be asked while a large build runs.
    """

    def accounts(audience: Audience) -> frozenset[str]:
        if audience.kind == "gateway":
            gateway = engine.get(GATEWAYS, GatewayKey(audience.namespace, audience.name))
            return frozenset({gateway.service_account}) if gateway is not None else named_alike(audience)
        if audience.kind != "sidecar":
            return frozenset()
        row = engine.get(ENDPOINTS, ServiceKey(audience.namespace, audience.name))
        endpoints = row.endpoints if row is not None else ()
        return frozenset(endpoint.service_account for endpoint in endpoints if endpoint.service_account)

    return accounts


def api_security(settings: Settings) -> api_access.Access:
    """Who may use the API.

    Raises:
        UsageError: tokens that cannot be read, or none where others can reach it.
    """
    try:
        found = api_access.tokens(settings.api_tokens, where="FAIRLEAD_API_TOKENS")
        if settings.api_tokens_file:
            text = Path(settings.api_tokens_file).read_text(encoding="utf-8")
            found += api_access.tokens(text, where=settings.api_tokens_file)
        access = api_access.Access(tokens=found)
        if settings.api_tls and not settings.ca and not (settings.xds_cert and settings.xds_key):
            raise UsageError("--api-tls: there is no certificate. Fix: --ca, or --xds-cert and --xds-key")
        api_access.check_binding(parse_address(settings.api, what="--api").host, access)
    except api_access.AccessError as error:
        raise UsageError(str(error)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--api-tokens-file: cannot read {settings.api_tokens_file}: {error}."
            " Fix: give a text file that this user may read"
        ) from None
    return access
