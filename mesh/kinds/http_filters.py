"""The filters of HTTPRoute: what may be done to a request or response on its way."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mesh.kinds.fields import HeaderName, HeaderValue, Path, PortNumber, PreciseHostname
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
    ]
    request_header_modifier: HTTPHeaderFilter | None = None
    response_header_modifier: HTTPHeaderFilter | None = None
    request_mirror: HTTPRequestMirrorFilter | None = None
    request_redirect: HTTPRequestRedirectFilter | None = None
    url_rewrite: HTTPURLRewriteFilter | None = None
    cors: HTTPCORSFilter | None = None
    extension_ref: LocalObjectReference | None = None
