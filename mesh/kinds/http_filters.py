"""The filters of HTTPRoute: what may be done to a request or response on its way."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mesh.kinds.fields import END, HeaderName, HeaderValue, Path, PortNumber, PreciseHostname
from mesh.kinds.meta import Spec
from mesh.kinds.references import BackendObjectReference, LocalObjectReference


class HTTPHeader(Spec, frozen=True, kw_only=True):
    """A header by name and value."""

    name: HeaderName
    value: HeaderValue


class HTTPHeaderFilter(Spec, frozen=True, kw_only=True):
    """Headers to overwrite, to append to, and to drop; names compare without regard to case."""

    set: Annotated[tuple[HTTPHeader, ...], Meta(max_length=16)] = ()
    add: Annotated[tuple[HTTPHeader, ...], Meta(max_length=16)] = ()
    remove: Annotated[tuple[str, ...], Meta(max_length=16)] = ()


class HTTPPathModifier(Spec, frozen=True, kw_only=True):
    """A new path: the whole of it, or only what the PathPrefix match matched."""

    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    replace_full_path: Path | None = None
    replace_prefix_match: Path | None = None


class HTTPRequestRedirectFilter(Spec, frozen=True, kw_only=True):
    """An answer with a Location made from the request and what is given here."""

    scheme: Literal["http", "https"] | None = None
    hostname: PreciseHostname | None = None
    path: HTTPPathModifier | None = None
    port: PortNumber | None = None
    status_code: Literal[301, 302, 303, 307, 308] = 302


class HTTPURLRewriteFilter(Spec, frozen=True, kw_only=True):
    """Another host or path towards the backend."""

    hostname: PreciseHostname | None = None
    path: HTTPPathModifier | None = None


class Fraction(Spec, frozen=True, kw_only=True):
    """`numerator` of `denominator`."""

    numerator: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    denominator: Annotated[int, Meta(ge=1, le=2**31 - 1)] = 100


class HTTPRequestMirrorFilter(Spec, frozen=True, kw_only=True):
    """A copy of the request, or of a share of requests, to another backend; its answer is dropped."""

    backend_ref: BackendObjectReference
    percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    fraction: Fraction | None = None


class HTTPCORSFilter(Spec, frozen=True, kw_only=True):
    """Cross-origin requests; `max_age` in seconds."""

    allow_origins: Annotated[
        tuple[
            Annotated[
                str,
                Meta(
                    min_length=1,
                    max_length=253,
                    pattern=r"(^\*$(?!\n))"
                    r"|(^(http(s)?):\/\/(((\*\.)?([a-zA-Z0-9\-]+\.)*[a-zA-Z0-9-]+|\*)(:([0-9]{1,5}))?)$(?!\n))",
                    description="an origin: '*', or a scheme and a host, with a port where it is not the scheme's own",
                    examples=["https://*.example.com"],
                ),
            ],
            ...,
        ],
        Meta(max_length=64),
    ] = ()
    allow_credentials: bool | None = None
    allow_methods: Annotated[
        tuple[Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"], ...],
        Meta(max_length=9),
    ] = ()
    allow_headers: Annotated[tuple[HeaderName, ...], Meta(max_length=64)] = ()
    expose_headers: Annotated[tuple[HeaderName, ...], Meta(max_length=64)] = ()
    max_age: Annotated[int, Meta(ge=1, le=2**31 - 1)] = 5


AuthHeaders = Annotated[tuple[HeaderName, ...], Meta(max_length=64)]


class GRPCAuthConfig(Spec, frozen=True, kw_only=True):
    """What an authorizer that speaks Envoy's `ext_authz` is told: these headers, or all where none is named."""

    allowed_headers: AuthHeaders = ()


class HTTPAuthConfig(Spec, frozen=True, kw_only=True):
    """What an authorizer that speaks HTTP is asked, and what of its answer the backend gets.

    `path` goes before the request's own path. `allowed_headers` are sent beside Host, method, path, Content-Length and
    Authorization. `allowed_response_headers` reach the backend, or all where none is named.
    """

    path: Annotated[
        str,
        Meta(
            max_length=1024,
            pattern=rf"^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{{2}})*{END}",
            description="a path: letters, digits, -/._~!$&'()*+,;=:@ and percent-encoded bytes",
            examples=["/check"],
        ),
    ] = ""
    allowed_headers: AuthHeaders = ()
    allowed_response_headers: AuthHeaders = ()


class ForwardBodyConfig(Spec, frozen=True, kw_only=True):
    """The authorizer gets the request's body too if it has at most `max_size` bytes; a larger one is refused."""

    max_size: Annotated[int, Meta(ge=0, le=65535)] = 0


class HTTPExternalAuthFilter(Spec, frozen=True, kw_only=True):
    """A request goes on only if an authorizer says so (GEP-1494); where that cannot be asked it does not go on."""

    protocol: Literal["HTTP", "GRPC"]
    backend_ref: BackendObjectReference
    grpc: GRPCAuthConfig | None = None
    http: HTTPAuthConfig | None = None
    forward_body: ForwardBodyConfig | None = None


class HTTPRouteFilter(Spec, frozen=True, kw_only=True):
    """One filter: `type` says which of the other fields is set."""

    type: Literal[
        "RequestHeaderModifier",
        "ResponseHeaderModifier",
        "RequestMirror",
        "RequestRedirect",
        "URLRewrite",
        "ExtensionRef",
        "CORS",
        "ExternalAuth",
    ]
    request_header_modifier: HTTPHeaderFilter | None = None
    response_header_modifier: HTTPHeaderFilter | None = None
    request_mirror: HTTPRequestMirrorFilter | None = None
    request_redirect: HTTPRequestRedirectFilter | None = None
    url_rewrite: HTTPURLRewriteFilter | None = None
    cors: HTTPCORSFilter | None = None
    external_auth: HTTPExternalAuthFilter | None = None
    extension_ref: LocalObjectReference | None = None
