"""ClientPolicy of `fairlead.dev/v1alpha1`: how gateways speak with their clients.

It is for a Gateway or ListenerSet (or one of its listeners), or a Namespace and with it all Gateways there; in the root
namespace for the mesh. What nobody sets is as Fairlead does it without any policy
(docs/how-to/client-policies.md has the table).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from mesh.kinds.extensions import ConfigMapEntry
from mesh.kinds.fields import Duration, HeaderName, PortNumber, PreciseHostname
from mesh.kinds.meta import Object, Spec
from mesh.kinds.policy import Atomic, TargetRefs
from mesh.kinds.routepolicy import PolicyHeaders
from mesh.kinds.trafficpolicy import InvalidMessage, TCPKeepalive

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
WindowSize = Annotated[int, Meta(ge=65_535, le=2**31 - 1)]
QuicWindowSize = Annotated[int, Meta(ge=1, le=2**24)]
AddressRange = Annotated[str, Meta(min_length=1, max_length=43)]
TLSVersion = Literal["1.0", "1.1", "1.2", "1.3"]
BROKEN_VERSIONS = ("1.0", "1.1")
DEFAULT_MIN_VERSION, DEFAULT_MAX_VERSION = "1.2", "1.3"
Cipher = Literal[
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
]
OLD_CIPHERS: tuple[Cipher, ...] = (
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-SHA",
    "AES256-SHA",
)
"""Those that TLS before 1.2 knows; none of them is among Envoy's own."""
AltName = Annotated[str, Meta(min_length=1, max_length=2048)]
SPKIHash = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$(?!\n)",
        max_length=44,
        description="the SHA-256 of a public key, in base64",
        examples=["NvqYIYSbgK2vCJpQhObf77vv+bQWtc5ek5RIOwPiC9A="],
    ),
]
CertificateHash = Annotated[
    str,
    Meta(
        pattern=r"^[0-9a-fA-F]{64}$(?!\n)",
        max_length=64,
        description="the SHA-256 of a certificate, in hexadecimal",
        examples=["df6ff72fe9116521268f6f2dd4966f51df479883fe7037b39f75916ac3049d1a"],
    ),
]
CertDetail = Literal["Subject", "Cert", "Chain", "DNS", "URI"]
Curve = Literal["X25519", "P-256", "P-384", "P-521", "X25519MLKEM768"]


class ClientAddress(Atomic, frozen=True, kw_only=True):
    """Whose word is taken for the client's address; exactly one.

    `trusted_hops`: of `X-Forwarded-For` so many addresses from the end were written by proxies in front of us.
    `trusted_cidrs`: the last address there that is not in these ranges, asked only of peers within them.
    `header`: that header, which whoever is in front of us always overwrites; with `reject_with_status` a request whose
    header holds no address is answered so.
    """

    trusted_hops: Annotated[int, Meta(ge=1, le=32)] | None = None
    trusted_cidrs: (
        Annotated[tuple[AddressRange, ...], Meta(min_length=1, max_length=64, description="trusted ranges")] | None
    ) = None
    header: HeaderName | None = None
    reject_with_status: Annotated[int, Meta(ge=400, le=599)] | None = None


class ClientProxyProtocol(Atomic, frozen=True, kw_only=True):
    """Connections begin with the PROXY protocol, version 1 or 2; with `optional` those that do not are taken too."""

    optional: bool = False


class SessionResumption(Spec, frozen=True, kw_only=True):
    """Whether clients that come back may leave out a part of the handshake.

    `stateless`: by a ticket that they keep. `stateful`: by what the proxy itself remembers of them.
    """

    stateless: bool | None = None
    stateful: bool | None = None


class SubjectAltNameMatch(Atomic, frozen=True, kw_only=True):
    """A name in a certificate, by exactly one of `exact`, `prefix` and `suffix`."""

    type: Literal["DNS", "URI", "Email", "IP"]
    exact: AltName | None = None
    prefix: AltName | None = None
    suffix: AltName | None = None


class RevocationList(Atomic, frozen=True, kw_only=True):
    """Certificates that were taken back (PEM): lists of all authorities up to the root, or of who signed clients'."""

    config_map: ConfigMapEntry
    only_verify_leaf_certificate: bool = False


class ClientValidationRules(Spec, frozen=True, kw_only=True):
    """What a client's certificate must be beyond one of an authority of `spec.tls.frontend` of the Gateway.

    Its key or itself is one of `spki_hashes` or `certificate_hashes`, where there are any; one of its names fits one of
    `subject_alt_names`; `crl` has it not.
    """

    spki_hashes: Annotated[tuple[SPKIHash, ...], Meta(min_length=1, max_length=64)] | None = None
    certificate_hashes: Annotated[tuple[CertificateHash, ...], Meta(min_length=1, max_length=64)] | None = None
    subject_alt_names: Annotated[tuple[SubjectAltNameMatch, ...], Meta(min_length=1, max_length=64)] | None = None
    crl: RevocationList | None = None


class ClientTLS(Spec, frozen=True, kw_only=True):
    """TLS with clients, where it ends here. `ciphers` are those of TLS 1.2; those of 1.3 cannot be chosen.

    Versions 1.0 and 1.1 are spoken only where `min_version` names one. They are broken (RFC 8996). `fingerprints`: of
    how clients begin, known to logs and headers.
    """

    min_version: TLSVersion | None = None
    max_version: TLSVersion | None = None
    ciphers: Annotated[tuple[Cipher, ...], Meta(min_length=1, max_length=16)] | None = None
    curves: Annotated[tuple[Curve, ...], Meta(min_length=1, max_length=8)] | None = None
    alpn: Annotated[tuple[Literal["h2", "http/1.1"], ...], Meta(min_length=1, max_length=2)] | None = None
    session_resumption: SessionResumption | None = None
    fingerprints: Annotated[tuple[Literal["JA3", "JA4"], ...], Meta(min_length=1, max_length=2)] | None = None
    client_validation: ClientValidationRules | None = None


class XForwardedClientCert(Atomic, frozen=True, kw_only=True):
    """What becomes of `x-forwarded-client-cert`, which tells backends of clients' certificates.

    `Sanitize` takes it off. `ForwardOnly` leaves what a client with a certificate sent, `AppendForward` adds its own to
    that, `SanitizeSet` puts its own in the place of it. `AlwaysForwardOnly` leaves it, whoever sent it.
    `cert_details_to_add` are told of a client's certificate beside its hash, where its own is told.
    """

    mode: Literal["Sanitize", "ForwardOnly", "AppendForward", "SanitizeSet", "AlwaysForwardOnly"]
    cert_details_to_add: Annotated[tuple[CertDetail, ...], Meta(max_length=5)] = ()


class ClientHeaders(Spec, frozen=True, kw_only=True):
    """Limits of requests' headers (more is answered 431), what becomes of names with an underscore, and changes.

    `Reject` answers 400, `Drop` takes the header off: some backends take `x_user` and `x-user` for the same.
    `early_request_headers`: of requests before anything is matched. `late_response_headers`: of answers after all
    else.
    """

    max_request_kib: Annotated[int, Meta(ge=1, le=8192)] | None = None
    max_count: Annotated[int, Meta(ge=1, le=32_768)] | None = None
    underscores: Literal["Allow", "Reject", "Drop"] | None = None
    x_forwarded_client_cert: XForwardedClientCert | None = None
    early_request_headers: PolicyHeaders | None = None
    late_response_headers: PolicyHeaders | None = None


class ClientPath(Spec, frozen=True, kw_only=True):
    """How paths are made plain before anything is matched.

    `normalize`: `/a/../b` is `/b`. `merge_slashes`: `//b` is `/b`. `escaped_slashes` (`%2F`, `%5C`): left as they are,
    answered 400, the client sent to the plain path, or taken for slashes.
    """

    normalize: bool | None = None
    merge_slashes: bool | None = None
    escaped_slashes: Literal["Keep", "Reject", "Redirect", "Unescape"] | None = None


class HTTP10(Atomic, frozen=True, kw_only=True):
    """HTTP/1.0 is taken; a request without `Host` is one for `default_host`, or answered 400 where there is none."""

    default_host: PreciseHostname | None = None


class ClientHTTP1(Spec, frozen=True, kw_only=True):
    """HTTP/1.1 from clients. `absolute_url`: `GET http://host/path` is taken as from one that asks a proxy."""

    absolute_url: bool | None = None
    http10: HTTP10 | None = None
    preserve_header_case: bool | None = None
    enable_trailers: bool | None = None


class ClientHTTP2(Spec, frozen=True, kw_only=True):
    """HTTP/2 from clients; sizes in bytes.

    `extended_connect`: clients are told that they may open WebSockets (RFC 8441). Backends over HTTP/1.1 get those
    without `Sec-WebSocket-Key`, which many insist on, so it is off unless said.
    `on_invalid_message`: what ends when a client sends a message that HTTP does not allow, by default its connection.
    """

    max_concurrent_streams: Count | None = None
    initial_stream_window_size: WindowSize | None = None
    initial_connection_window_size: WindowSize | None = None
    keepalive_interval: Duration | None = None
    keepalive_timeout: Duration | None = None
    extended_connect: bool | None = None
    on_invalid_message: InvalidMessage | None = None


class ClientHTTP3(Spec, frozen=True, kw_only=True):
    """HTTP/3 over QUIC on the same port number of UDP; answers over TCP tell clients of it (`Alt-Svc`).

    `advertised_port`: where clients reach it, if that is another port. `advertised_for`: how long they may remember.
    `early_data`: what clients that come back send along with the handshake is taken. Whoever has seen it can send it
    again (RFC 8470), so it is off unless said; backends are told of it by `Early-Data: 1`.
    """

    enabled: bool | None = None
    advertised_port: PortNumber | None = None
    advertised_for: Duration | None = None
    early_data: bool | None = None
    max_concurrent_streams: Annotated[int, Meta(ge=1, le=1000)] | None = None
    initial_stream_window_size: QuicWindowSize | None = None
    initial_connection_window_size: QuicWindowSize | None = None


class ClientTimeouts(Spec, frozen=True, kw_only=True):
    """How long things may take; 0s switches a limit off (not `tlsHandshake`).

    `tls_handshake`: from the connection to the end of its handshake. `request_headers`: the headers of a request to be
    there whole. `request`: the whole request to be there, its body included. `stream`: a request with its answer.
    `stream_idle`: a request on which nothing moves. `idle`: a connection without requests, or on which nothing moves.
    `connection`: a connection, which then takes no new requests.
    """

    tls_handshake: Duration | None = None
    request_headers: Duration | None = None
    request: Duration | None = None
    stream: Duration | None = None
    stream_idle: Duration | None = None
    idle: Duration | None = None
    connection: Duration | None = None


class ClientConnections(Spec, frozen=True, kw_only=True):
    """`limit`: connections of a listener at each proxy, more are closed, `close_delay` after they came.

    `buffer_limit`: bytes read ahead of each. `socket_buffer_limit`: bytes that the kernel keeps for each, either way.
    `max_requests`: after so many a connection is closed.
    """

    limit: Count | None = None
    close_delay: Duration | None = None
    buffer_limit: Annotated[int, Meta(ge=1024, le=2**31 - 1)] | None = None
    socket_buffer_limit: Annotated[int, Meta(ge=4096, le=2**30)] | None = None
    max_requests: Count | None = None


class ClientHealthCheck(Atomic, frozen=True, kw_only=True):
    """Probes of whatever is in front: the proxy answers them at `path`, 200, and 503 while it drains."""

    path: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=1024,
            pattern=r"^/[A-Za-z0-9._~!$&'()*+,;=:@/-]*$(?!\n)",
            description="a path, from `/` on, without a query and without escapes",
            examples=["/healthz"],
        ),
    ]


class ClientSettings(Spec, frozen=True, kw_only=True):
    """All that a ClientPolicy can set."""

    client_address: ClientAddress | None = None
    proxy_protocol: ClientProxyProtocol | None = None
    tls: ClientTLS | None = None
    headers: ClientHeaders | None = None
    path: ClientPath | None = None
    http1: ClientHTTP1 | None = None
    http2: ClientHTTP2 | None = None
    http3: ClientHTTP3 | None = None
    timeouts: ClientTimeouts | None = None
    connections: ClientConnections | None = None
    tcp_keepalive: TCPKeepalive | None = None
    health_check: ClientHealthCheck | None = None
    scheme: Literal["Preserve", "MatchBackend"] | None = None


class ClientPolicySpec(ClientSettings, frozen=True, kw_only=True):
    """What it is for, what holds unless something narrower says otherwise, and what holds whatever it says."""

    target_refs: TargetRefs
    overrides: ClientSettings | None = None


class ClientPolicy(Object, frozen=True, kw_only=True):
    """`fairlead.dev/v1alpha1` ClientPolicy."""

    api_version: Literal["fairlead.dev/v1alpha1"]
    kind: Literal["ClientPolicy"]
    spec: ClientPolicySpec


def config_maps(policy: ClientPolicy) -> Iterator[str]:
    """The names of the ConfigMaps that a policy reads."""
    for crl in revocation_lists(policy):
        yield crl.config_map.name


def revocation_lists(policy: ClientPolicy) -> Iterator[RevocationList]:
    """The lists of certificates taken back that a policy names."""
    for settings in (policy.spec, policy.spec.overrides):
        rules = settings.tls.client_validation if settings is not None and settings.tls is not None else None
        if rules is not None and rules.crl is not None:
            yield rules.crl
