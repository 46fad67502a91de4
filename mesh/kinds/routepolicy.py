"""RoutePolicy of `fairlead.dev/v1alpha1`: what happens to requests of a route beside what the route itself says.

It is for an HTTPRoute or GRPCRoute (or one named rule), for a Gateway or ListenerSet (or one listener) and with it all
routes behind it, or for a Namespace and with it all its routes; in the root namespace for the mesh. What a
route says itself wins. Nothing of it touches a listener, so that no connection is drained.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta, field

from mesh.kinds.extensions import ConfigMapEntry, Extension
from mesh.kinds.fields import END, SUBDOMAIN, CookieName, Duration, HeaderName, HeaderValue, ObjectName
from mesh.kinds.meta import Object, Spec
from mesh.kinds.policy import Atomic, TargetRefs
from mesh.kinds.trafficpolicy import StatusRange

Share = Annotated[float, Meta(ge=0, le=100)]
Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Regex = Annotated[str, Meta(min_length=1, max_length=1024)]
Body = Annotated[str, Meta(max_length=4096)]
ContentType = Annotated[str, Meta(min_length=1, max_length=256)]
Location = Annotated[
    str,
    Meta(
        max_length=2048,
        pattern=rf"^(https?://|/)[\x21-\x7e]*{END}",
        description="a URL of http or https, or a path on the same host",
        examples=["https://login.example.com/"],
    ),
]
HostSubstitution = Annotated[
    str,
    Meta(
        max_length=253,
        pattern=rf"^([A-Za-z0-9.:_-]|\\[0-9])+{END}",
        description="a host, perhaps with a port, in which `\\1` is the first group",
        examples=["\\1.example.com"],
    ),
]
Algorithm = Literal["gzip", "brotli", "zstd"]
GRPCStatus = Annotated[int, Meta(ge=0, le=16)]
OriginHost = Annotated[
    str,
    Meta(
        max_length=260,
        pattern=rf"^(\*\.)?{SUBDOMAIN}(:[0-9]{{1,5}})?{END}",
        description="the host of an origin: lower case, with its port where it has one, without a scheme",
        examples=["app.example.com:8443"],
    ),
]
CookieValue = Annotated[
    str,
    Meta(
        max_length=1024,
        pattern=rf"^[!#-+\--:<-\[\]-~]*{END}",
        description="a cookie's value (RFC 6265): plain characters without blanks, quotes, ',', ';' and '\\\\'",
        examples=["beta"],
    ),
]
GRPCServiceName = Annotated[
    str,
    Meta(
        max_length=256,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$(?!\n)",
        description="the full name of a gRPC service",
        examples=["shop.v1.Cart"],
    ),
]
StatusOrClass = Annotated[
    str,
    Meta(
        pattern=r"^([1-5][0-9]{2}|[1-5]xx)$(?!\n)",
        description="a status, or a class of them",
        examples=["503", "5xx"],
    ),
]


class FaultDelay(Atomic, frozen=True, kw_only=True):
    """`fixed` for `percent` of the requests.

    `from_header`: as long as `x-envoy-fault-delay-request` says, in milliseconds, at most an hour.
    """

    fixed: Duration | None = None
    from_header: bool = False
    percent: Share = 100.0


class FaultAbort(Atomic, frozen=True, kw_only=True):
    """An answer instead of the backend's.

    `from_header`: the status in `x-envoy-fault-abort-request`, from 200 to 599, but not 204, 205 and 304.
    """

    http_status: Annotated[int, Meta(ge=200, le=599)] | None = None
    grpc_status: GRPCStatus | None = None
    from_header: bool = False
    percent: Share = 100.0


class FaultHeader(Atomic, frozen=True, kw_only=True):
    """A header that a request must carry; without a value any will do."""

    name: HeaderName
    value: HeaderValue | None = None


class FaultInjection(Spec, frozen=True, kw_only=True):
    """Faults on purpose. `headers`: only requests that carry all of them. `max_active`: so many at once per proxy."""

    delay: FaultDelay | None = None
    abort: FaultAbort | None = None
    headers: Annotated[tuple[FaultHeader, ...], Meta(max_length=8)] | None = None
    max_active: Count | None = None


class DirectResponse(Atomic, frozen=True, kw_only=True):
    """An answer of the proxy's own; no backend is asked."""

    status: Annotated[int, Meta(ge=200, le=599)]
    body: Body = ""
    content_type: ContentType = "text/plain"


class RegexRewrite(Atomic, frozen=True, kw_only=True):
    r"""What of the path matches `pattern` (RE2) becomes `substitution`, in which `\1` is the first group."""

    pattern: Regex
    substitution: Annotated[str, Meta(max_length=1024)] = ""


class RegexRedirect(RegexRewrite, frozen=True, kw_only=True):
    """The client is sent to the path that the rewrite makes; requests of which it matches nothing go on."""

    status_code: Literal[301, 302, 303, 307, 308] = 302

    @property
    def path(self) -> str:
        """The expression that matches a whole path of which the pattern matches something."""
        return f"(?s:.*)(?:{self.pattern})(?s:.*)"


class HostFromPath(Atomic, frozen=True, kw_only=True):
    r"""The host that `pattern` (RE2), where it matches the whole path without its query, and `substitution` make."""

    pattern: Regex
    substitution: HostSubstitution


class HostRewrite(Atomic, frozen=True, kw_only=True):
    """Where the host that the backend sees comes from; exactly one.

    `from_header`: the value of that request header, where it is there. `from_path`: what an expression makes of the
    path, where it matches. `from_backend`: the DNS name of the endpoint that is asked, where it has one.
    """

    from_header: HeaderName | None = None
    from_path: HostFromPath | None = None
    from_backend: bool = False

    @property
    def by_client(self) -> bool:
        """Whether clients choose the host."""
        return self.from_header is not None or self.from_path is not None


class RouteRewrite(Spec, frozen=True, kw_only=True):
    """What the backend sees."""

    path: RegexRewrite | None = None
    host: HostRewrite | None = None


class InternalRedirects(Atomic, frozen=True, kw_only=True):
    """The proxy follows redirects of these statuses itself, `max_redirects` in a row; clients see the last answer.

    `cross_scheme`: whether one may lead from http to https or back; `Safe`: only back.
    """

    max_redirects: Annotated[int, Meta(ge=1, le=10)] = 1
    statuses: Annotated[tuple[Literal[301, 302, 303, 307, 308], ...], Meta(min_length=1, max_length=5)] = (302,)
    cross_scheme: Literal["Never", "Safe", "Always"] = "Never"


class ResponseOverride(Atomic, frozen=True, kw_only=True):
    """Answers of these statuses get another body, and another status where one is given.

    `redirect_to`: the client is sent there, by `status` (302 without one).
    """

    statuses: Annotated[tuple[StatusOrClass, ...], Meta(min_length=1, max_length=16)]
    status: Annotated[int, Meta(ge=200, le=599)] | None = None
    redirect_to: Location | None = None
    body: Body = ""
    content_type: ContentType = "text/plain"


class Compression(Atomic, frozen=True, kw_only=True):
    """Answers are compressed for clients that accept it: text of at least 30 bytes, unless it is compressed already."""

    algorithms: Annotated[tuple[Algorithm, ...], Meta(min_length=1, max_length=3)]


class RequestBuffer(Atomic, frozen=True, kw_only=True):
    """A request goes on when it is whole; a larger one is answered 413.

    WebSockets and tunnels, which are never whole, are refused.
    """

    max_bytes: Annotated[int, Meta(ge=1, le=64 * 1024 * 1024)]


class BandwidthLimit(Atomic, frozen=True, kw_only=True):
    """How many KiB a second pass at most: of bodies, in each direction for all requests of a match together, per proxy.

    What is more waits. So Envoy counts it: for each match of a rule, anew after its route has changed.
    """

    request_kibps: Count | None = None
    response_kibps: Count | None = None


class AdmissionControl(Atomic, frozen=True, kw_only=True):
    """Requests are answered 503 at random where too many failed before, so that a backend can recover.

    Below `success_rate_threshold` (in percent, over `sampling_window`) the share that is refused grows with what is
    missing, the sooner the higher `aggression` is, up to `max_rejection_probability` percent. Nothing is refused below
    `rps_threshold` requests a second. What succeeds: statuses below 500, and gRPC's that are no fault of the server.
    """

    sampling_window: Duration = "30s"
    success_rate_threshold: Annotated[float, Meta(ge=1, le=100)] = 95.0
    aggression: Annotated[float, Meta(ge=1, le=100)] = 1.0
    rps_threshold: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    max_rejection_probability: Share = 80.0
    http_success_statuses: Annotated[tuple[StatusRange, ...], Meta(min_length=1, max_length=16)] | None = None
    grpc_success_statuses: Annotated[tuple[GRPCStatus, ...], Meta(min_length=1, max_length=17)] | None = None


class CSRF(Atomic, frozen=True, kw_only=True):
    """POST, PUT, PATCH and DELETE are answered 403 unless their `Origin` (or `Referer`) is the host they are for.

    `additional_origins` may send them too; `*.` before a name stands for all names below it.
    """

    additional_origins: Annotated[tuple[OriginHost, ...], Meta(max_length=32)] = ()


class SecretEntry(Atomic, frozen=True, kw_only=True):
    """An entry of a Secret in the policy's own namespace."""

    name: ObjectName
    key: Annotated[str, Meta(min_length=1, max_length=253)]


class CredentialInjection(Atomic, frozen=True, kw_only=True):
    """Gateways send a Secret's entry to backends, as the value of a header and behind `prefix`.

    A header that a client sends itself stays unless `overwrite` says otherwise. Where there is no such entry requests
    are answered 500.
    """

    secret: SecretEntry
    header: HeaderName = "authorization"
    prefix: Annotated[str, Meta(max_length=256, pattern=r"^[\x20-\x7e]*$(?!\n)", description="plain text")] = ""
    overwrite: bool = False


class PolicyHeader(Atomic, frozen=True, kw_only=True):
    """A header and its value, in which Envoy's commands are filled in (`%DOWNSTREAM_REMOTE_ADDRESS%`)."""

    name: HeaderName
    value: HeaderValue


class PolicyHeaders(Atomic, frozen=True, kw_only=True):
    """Headers to set, to add, and to take off."""

    set: Annotated[tuple[PolicyHeader, ...], Meta(max_length=16)] = ()
    add: Annotated[tuple[PolicyHeader, ...], Meta(max_length=16)] = ()
    remove: Annotated[tuple[HeaderName, ...], Meta(max_length=16)] = ()


class HeaderTransformation(Spec, frozen=True, kw_only=True):
    """Headers of the request and of the response, after the route's own filters."""

    request: PolicyHeaders | None = None
    response: PolicyHeaders | None = None


class AffinityCookie(Atomic, frozen=True, kw_only=True):
    """A cookie that the proxy gives; without `ttl` for the session."""

    name: CookieName
    ttl: Duration | None = None
    path: Annotated[str, Meta(min_length=1, max_length=1024)] = "/"


class SessionAffinity(Atomic, frozen=True, kw_only=True):
    """A client stays at the endpoint it was given, by a cookie or a header; exactly one.

    `strict`: where that endpoint is gone the answer is 503, instead of another endpoint's.
    """

    cookie: AffinityCookie | None = None
    header: HeaderName | None = None
    strict: bool = False


class DescriptorSource(Atomic, frozen=True, kw_only=True):
    """A `FileDescriptorSet` of protobuf (`protoc --include_imports --descriptor_set_out`); exactly one.

    `inline` is base64. It may have 256 KiB, since each route that uses it carries it.
    """

    config_map: ConfigMapEntry | None = None
    inline: Annotated[str, Meta(min_length=4, max_length=349_528)] | None = None


class GRPCJSON(Atomic, frozen=True, kw_only=True):
    """JSON over HTTP becomes gRPC for the backend, as the services' `google.api.http` options say.

    `auto_mapping`: a method without them is asked by `POST /<package>.<Service>/<Method>`.
    """

    descriptor: DescriptorSource
    services: Annotated[tuple[GRPCServiceName, ...], Meta(min_length=1, max_length=32)]
    auto_mapping: bool = False
    ignore_unknown_query_parameters: bool = False
    convert_status: bool = True
    preserve_field_names: bool = False
    print_defaults: bool = False


class CookieMatch(Atomic, frozen=True, kw_only=True):
    """A cookie that requests have; without a value any will do."""

    name: CookieName
    value: CookieValue | None = None


class RouteSettings(Spec, frozen=True, kw_only=True):
    """All that a RoutePolicy can set.

    `match_cookies`: a named rule is for requests that have all these cookies, too. They count as matches of headers do.
    `grpc_web` (on by default): requests in gRPC-Web become gRPC for the backend. `web_socket` (on): upgrades pass.
    `connect`: what becomes of a request by CONNECT where a match names that method (`Refuse` by default). `Terminate`:
    what is in the tunnel goes to the backend as it is. `Forward`: the backend is a proxy and gets the CONNECT.
    `extensions` see a request in this order, and its answer in the opposite one.
    """

    match_cookies: Annotated[tuple[CookieMatch, ...], Meta(min_length=1, max_length=8)] | None = None
    fault_injection: FaultInjection | None = None
    direct_response: DirectResponse | None = None
    redirect: RegexRedirect | None = None
    rewrite: RouteRewrite | None = None
    internal_redirects: InternalRedirects | None = None
    response_overrides: Annotated[tuple[ResponseOverride, ...], Meta(max_length=8)] | None = None
    compression: Compression | None = None
    request_buffer: RequestBuffer | None = None
    bandwidth_limit: BandwidthLimit | None = None
    admission_control: AdmissionControl | None = None
    csrf: CSRF | None = None
    credential_injection: CredentialInjection | None = None
    headers: HeaderTransformation | None = None
    grpc_web: bool | None = None
    session_affinity: SessionAffinity | None = None
    web_socket: bool | None = None
    connect: Literal["Refuse", "Terminate", "Forward"] | None = None
    grpc_json: GRPCJSON | None = field(default=None, name="grpcJSON")
    extensions: Annotated[tuple[Extension, ...], Meta(max_length=4)] | None = None


class RoutePolicySpec(RouteSettings, frozen=True, kw_only=True):
    """What it is for, what holds unless something narrower says otherwise, and what holds whatever it says."""

    target_refs: TargetRefs
    overrides: RouteSettings | None = None


class RoutePolicy(Object, frozen=True, kw_only=True):
    """`fairlead.dev/v1alpha1` RoutePolicy."""

    api_version: Literal["fairlead.dev/v1alpha1"]
    kind: Literal["RoutePolicy"]
    spec: RoutePolicySpec


def stanzas(policy: RoutePolicy) -> Iterator[RouteSettings]:
    """All that a policy sets: as defaults, and as overrides."""
    yield policy.spec
    if policy.spec.overrides is not None:
        yield policy.spec.overrides


def has_parts(policy: RoutePolicy) -> bool:
    """Whether a policy has parts that only Envoy can judge, and that routes are made without where it refuses them."""
    return any(one.grpc_json is not None or one.extensions for one in stanzas(policy))


def credential(policy: RoutePolicy) -> CredentialInjection | None:
    """What a policy injects; its overrides count wherever its defaults could."""
    found = (one.credential_injection for one in reversed(tuple(stanzas(policy))))
    return next((one for one in found if one is not None), None)


def secrets(policy: RoutePolicy) -> frozenset[str]:
    """The names of the Secrets that a policy refers to, in its own namespace."""
    found = (one.credential_injection for one in stanzas(policy))
    return frozenset(one.secret.name for one in found if one is not None)


def config_maps(policy: RoutePolicy) -> frozenset[str]:
    """The names of the ConfigMaps that a policy refers to, in its own namespace."""
    found: set[ConfigMapEntry | None] = set()
    for one in stanzas(policy):
        found.add(one.grpc_json.descriptor.config_map if one.grpc_json is not None else None)
        for extension in one.extensions or ():
            found.update(part.config_map for part in (extension.lua, extension.wasm) if part is not None)
    return frozenset(one.name for one in found if one is not None)
