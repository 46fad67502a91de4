"""TrafficPolicy of `fairlead.dev/v1alpha1`: how traffic goes to a backend.

It is for a Service (or one port of it), a ServiceSubset, or a Namespace and with it all Services there; in the root
namespace a Namespace policy is for the whole mesh. Every field may be left out: what nobody sets is as Fairlead does it
without any policy (docs/reference/defaults.md). Envoy's words are kept where Envoy has one.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from mesh.kinds.fields import CookieName, Duration, HeaderName, HeaderValue, Path, PreciseHostname, QueryParamName
from mesh.kinds.httproute import DEFAULT_ATTEMPTS
from mesh.kinds.meta import Object, Spec
from mesh.kinds.policy import Atomic, Percent, TargetRefs
from mesh.kinds.references import BackendObjectReference

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Limit = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Bytes = Annotated[int, Meta(ge=1, le=2**31 - 1)]
StatusCode = Annotated[int, Meta(ge=100, le=599)]

LoadBalancerType = Literal["LeastRequest", "RoundRobin", "Random", "RingHash", "Maglev", "ClientSideWeightedRoundRobin"]
RetryCondition = Literal[
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
]


class HashCookie(Atomic, frozen=True, kw_only=True):
    """A cookie to hash by. With `ttl` Envoy gives one to clients that have none; 0s makes it end with the session."""

    name: CookieName
    ttl: Duration | None = None
    path: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None


class HashOn(Atomic, frozen=True, kw_only=True):
    """One thing to hash by; exactly one field. With `terminal` the ones after it count only where it is absent."""

    header: HeaderName | None = None
    cookie: HashCookie | None = None
    query_parameter: QueryParamName | None = None
    source_ip: bool | None = None
    terminal: bool = False


class ConsistentHash(Spec, frozen=True, kw_only=True):
    """What RingHash and Maglev hash by, and how finely.

    `table_size` is Maglev's (a prime), the ring sizes are RingHash's. `balance_factor` bounds how much more than the
    average an endpoint gets, in percent (100: nothing more; 150: half as much again).
    """

    hash_on: Annotated[tuple[HashOn, ...], Meta(min_length=1, max_length=8)] | None = None
    table_size: Annotated[int, Meta(ge=3, le=5_000_011)] | None = None
    minimum_ring_size: Annotated[int, Meta(ge=1, le=8_388_608)] | None = None
    maximum_ring_size: Annotated[int, Meta(ge=1, le=8_388_608)] | None = None
    balance_factor: Annotated[int, Meta(ge=100, le=10_000)] | None = None


class SlowStart(Atomic, frozen=True, kw_only=True):
    """A new endpoint gets its share bit by bit over `window`; `aggression` 1 is a straight line."""

    window: Duration
    aggression: Annotated[float, Meta(gt=0, le=100)] = 1.0
    min_weight_percent: Percent = 10


class Orca(Atomic, frozen=True, kw_only=True):
    """How endpoints' own load reports (ORCA) are used by ClientSideWeightedRoundRobin."""

    out_of_band: bool = False
    reporting_period: Duration | None = None
    blackout_period: Duration | None = None
    weight_expiration_period: Duration | None = None
    weight_update_period: Duration | None = None
    error_utilization_penalty: Annotated[float, Meta(ge=0, le=100)] | None = None
    metric_names: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=128)], ...], Meta(max_length=8)] = ()


class LocalityName(Atomic, frozen=True, kw_only=True):
    """A place, as far as it is named."""

    region: Annotated[str, Meta(max_length=253)] = ""
    zone: Annotated[str, Meta(max_length=253)] = ""
    sub_zone: Annotated[str, Meta(max_length=253)] = ""


class LocalityWeight(LocalityName, frozen=True, kw_only=True):
    """A place, as far as it is named, and its share of the traffic."""

    weight: Annotated[int, Meta(ge=0, le=1_000_000)] = 1


class LocalityPolicy(Spec, frozen=True, kw_only=True):
    """How places share the traffic.

    `weights`: by these shares, whatever endpoints are there. `failover`: endpoints of the first place get all traffic
    while they are healthy, then those of the next, the unnamed last. `prefer_same_zone`: clients of a zone go to the
    endpoints there while they are healthy, unless the endpoints say whom they are for. `overprovisioning_percent` says
    how many healthy endpoints of a place suffice (140: traffic moves on below 72 % healthy).
    """

    weights: Annotated[tuple[LocalityWeight, ...], Meta(min_length=1, max_length=64)] | None = None
    failover: Annotated[tuple[LocalityName, ...], Meta(min_length=1, max_length=16)] | None = None
    prefer_same_zone: bool | None = None
    overprovisioning_percent: Annotated[int, Meta(ge=100, le=1000)] | None = None


class EndpointOverride(Atomic, frozen=True, kw_only=True):
    """Requests choose their endpoint: the first of these headers that names one (`address:port`) of the backend's.

    Anybody who can send the header can choose, but nothing else than endpoints of that backend. Without the header, or
    with an endpoint that there is not, the load balancer chooses.
    """

    headers: Annotated[tuple[HeaderName, ...], Meta(min_length=1, max_length=4)]


class EndpointSelection(Atomic, frozen=True, kw_only=True):
    """Requests choose among the endpoints by their labels: `header` says which value of `label` an endpoint must have.

    Without `label` the header names a tag, as Consul's instances have: a label whose value is `true`. Several values
    with commas between them are tried in turn, eight at most. `fallback`: where no endpoint has any of them,
    `AnyEndpoint` answers, else nobody (503). A request without the header goes to any endpoint.
    """

    header: HeaderName
    label: Annotated[str, Meta(min_length=1, max_length=317)] | None = None
    fallback: Literal["None", "AnyEndpoint"] = "None"


class LoadBalancer(Spec, frozen=True, kw_only=True):
    """Which endpoint a request goes to.

    `panic_threshold`: below this percentage of healthy endpoints all get traffic, healthy or not; 0 never.
    `choice_count` is LeastRequest's. `subset_fallback` is a ServiceSubset's: where it has no healthy endpoint,
    `AnyEndpoint` of its Service takes over.
    """

    type: LoadBalancerType | None = None
    choice_count: Annotated[int, Meta(ge=2, le=100)] | None = None
    consistent_hash: ConsistentHash | None = None
    orca: Orca | None = None
    slow_start: SlowStart | None = None
    locality: LocalityPolicy | None = None
    panic_threshold: Percent | None = None
    subset_fallback: Literal["None", "AnyEndpoint"] | None = None
    endpoint_override: EndpointOverride | None = None
    endpoint_selection: EndpointSelection | None = None


class RetryBudget(Atomic, frozen=True, kw_only=True):
    """Retries in flight may be this percentage of all requests in flight, and always `min_concurrency`."""

    percent: Annotated[float, Meta(ge=0, le=100)] = 20.0
    min_concurrency: Limit = 3


class CircuitBreaker(Spec, frozen=True, kw_only=True):
    """What may be under way to a backend at once, from each proxy; more is answered 503 at once."""

    max_connections: Limit | None = None
    max_pending_requests: Limit | None = None
    max_requests: Limit | None = None
    max_retries: Limit | None = None
    retry_budget: RetryBudget | None = None
    max_connections_per_endpoint: Limit | None = None
    max_connection_pools: Count | None = None


CONSECUTIVE = ("consecutive_5xx", "consecutive_gateway_failure", "consecutive_local_origin_failure")
SUCCESS_RATE = ("success_rate_stdev_factor", "success_rate_minimum_hosts", "success_rate_request_volume")
FAILURE_PERCENTAGE = (
    "failure_percentage_threshold",
    "failure_percentage_minimum_hosts",
    "failure_percentage_request_volume",
)
"""The fields of the three ways in which outliers are found; each way is on where one of its fields is set."""


class OutlierDetection(Spec, frozen=True, kw_only=True):
    """Endpoints that fail are left out for a while, each time longer.

    A counter of 0 switches its kind off. `failure_percentage` and `success_rate` compare endpoints once there are
    enough of them with enough requests.
    """

    consecutive_5xx: Limit | None = field(default=None, name="consecutive5xx")
    consecutive_gateway_failure: Limit | None = None
    consecutive_local_origin_failure: Limit | None = None
    split_external_local_origin_errors: bool | None = None
    success_rate_stdev_factor: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    success_rate_minimum_hosts: Count | None = None
    success_rate_request_volume: Count | None = None
    failure_percentage_threshold: Annotated[int, Meta(ge=1, le=100)] | None = None
    failure_percentage_minimum_hosts: Count | None = None
    failure_percentage_request_volume: Count | None = None
    interval: Duration | None = None
    base_ejection_time: Duration | None = None
    max_ejection_time: Duration | None = None
    max_ejection_time_jitter: Duration | None = None
    max_ejection_percent: Percent | None = None
    always_eject_one_host: bool | None = None


class StatusRange(Atomic, frozen=True, kw_only=True):
    """Statuses from `start` to `end`, both included."""

    start: StatusCode
    end: StatusCode


Expected = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=1024)], ...], Meta(max_length=8)]


class HTTPHealthCheck(Atomic, frozen=True, kw_only=True):
    """A request that must be answered with one of the expected statuses (200 without any).

    With `receive` the first KiB of the body must contain each of these texts, in this order.
    """

    path: Path
    host: PreciseHostname | None = None
    method: Literal["GET", "HEAD", "OPTIONS", "POST", "PUT"] = "GET"
    expected_statuses: Annotated[tuple[StatusRange, ...], Meta(max_length=16)] = ()
    headers: Annotated[dict[HeaderName, HeaderValue], Meta(max_length=16)] = field(default_factory=dict)
    receive: Expected = ()


class GRPCHealthCheck(Atomic, frozen=True, kw_only=True):
    """gRPC's own health protocol, asked for `service` (empty: the whole server)."""

    service: Annotated[str, Meta(max_length=1024)] = ""
    authority: Annotated[str, Meta(max_length=253)] = ""


class TCPHealthCheck(Atomic, frozen=True, kw_only=True):
    """A connection; with `send` (text) it must answer something that contains each of `receive`."""

    send: Annotated[str, Meta(max_length=1024)] | None = None
    receive: Expected = ()


class HealthCheck(Spec, frozen=True, kw_only=True):
    """Every proxy asks every endpoint; exactly one of `http`, `grpc` and `tcp`.

    An endpoint that discovery removes goes at once, whatever its checks say. `alt_port` is the port at which all checks
    of a policy ask, if not the endpoint's own.
    """

    http: HTTPHealthCheck | None = None
    grpc: GRPCHealthCheck | None = None
    tcp: TCPHealthCheck | None = None
    interval: Duration | None = None
    timeout: Duration | None = None
    unhealthy_threshold: Annotated[int, Meta(ge=1, le=1000)] | None = None
    healthy_threshold: Annotated[int, Meta(ge=1, le=1000)] | None = None
    initial_jitter: Duration | None = None
    interval_jitter_percent: Percent | None = None
    unhealthy_interval: Duration | None = None
    no_traffic_interval: Duration | None = None
    alt_port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    reuse_connection: bool | None = None


class TrafficTimeouts(Spec, frozen=True, kw_only=True):
    """How long things may take; 0s switches a limit off (not `connect`).

    `connect`: a connection to an endpoint. `request`: the whole answer, retries included; a route's own wins, and where
    a rule has several backends the longest of theirs counts. `per_try`: one try of a retry. `idle`: a connection
    without requests. `stream`: one request to an endpoint, whatever moves on it. `connection_age`: a connection, which
    then takes no new requests.
    """

    connect: Duration | None = None
    request: Duration | None = None
    per_try: Duration | None = None
    idle: Duration | None = None
    stream: Duration | None = None
    connection_age: Duration | None = None


class RetryBackoff(Atomic, frozen=True, kw_only=True):
    """The first pause and the longest; they grow exponentially, with jitter."""

    base: Duration
    max: Duration | None = None


class TrafficRetry(Spec, frozen=True, kw_only=True):
    """When a request is sent again; a route's own `retry` wins. `attempts` counts the repetitions, 0 means none.

    `avoid_tried_hosts`: a repetition goes to another endpoint where there is one. `attempts_per_priority`: after so
    many tries in one priority the next ones go to the others, though the first is healthy.
    """

    attempts: Annotated[int, Meta(ge=0, le=100)] | None = None
    conditions: Annotated[tuple[RetryCondition, ...], Meta(min_length=1, max_length=16)] | None = None
    codes: Annotated[tuple[Annotated[int, Meta(ge=400, le=599)], ...], Meta(min_length=1, max_length=64)] | None = None
    backoff: RetryBackoff | None = None
    avoid_tried_hosts: bool | None = None
    attempts_per_priority: Annotated[int, Meta(ge=1, le=100)] | None = None

    @property
    def repeated(self) -> int:
        """How often a request is sent again at most."""
        return self.attempts if self.attempts is not None else DEFAULT_ATTEMPTS


class TCPKeepalive(Spec, frozen=True, kw_only=True):
    """The kernel asks a silent peer whether it is still there."""

    probes: Annotated[int, Meta(ge=1, le=127)] | None = None  # Linux: MAX_TCP_KEEPCNT
    time: Duration | None = None
    interval: Duration | None = None


class UpstreamHTTP1(Spec, frozen=True, kw_only=True):
    """HTTP/1.1 to the backend."""

    preserve_header_case: bool | None = None
    enable_trailers: bool | None = None


InvalidMessage = Literal["TerminateConnection", "TerminateStream"]


class UpstreamHTTP2(Spec, frozen=True, kw_only=True):
    """HTTP/2 to the backend; sizes in bytes.

    `on_invalid_message`: what ends when the backend sends a message that HTTP does not allow, by default its
    connection with the requests of all others on it.
    """

    max_concurrent_streams: Count | None = None
    initial_stream_window_size: Annotated[int, Meta(ge=65_535, le=2**31 - 1)] | None = None
    initial_connection_window_size: Annotated[int, Meta(ge=65_535, le=2**31 - 1)] | None = None
    keepalive_interval: Duration | None = None
    keepalive_timeout: Duration | None = None
    on_invalid_message: InvalidMessage | None = None


class UpstreamHTTP(Spec, frozen=True, kw_only=True):
    """`max_requests_per_connection`: after so many a connection is closed (1: no reuse).

    `use_client_protocol`: a request goes on in the version of HTTP that it came in, whatever the port's protocol says.
    """

    http1: UpstreamHTTP1 | None = None
    http2: UpstreamHTTP2 | None = None
    use_client_protocol: bool | None = None
    max_requests_per_connection: Count | None = None
    max_response_headers_kib: Annotated[int, Meta(ge=1, le=8192)] | None = None


class UpstreamConnection(Spec, frozen=True, kw_only=True):
    """`buffer_limit`: bytes that are read ahead at most, in each direction.

    `socket_buffer_limit`: bytes that the kernel holds for a connection at most, in each direction.
    `close_on_unhealthy`: TCP connections to an endpoint end when it becomes unhealthy; requests under way never do.
    """

    buffer_limit: Bytes | None = None
    socket_buffer_limit: Annotated[int, Meta(ge=4096, le=2**30)] | None = None
    close_on_unhealthy: bool | None = None


class Preconnect(Atomic, frozen=True, kw_only=True):
    """Connections opened before they are needed, as a multiple of those in use, in percent (100: none ahead)."""

    per_endpoint_percent: Annotated[int, Meta(ge=100, le=300)] | None = None
    predictive_percent: Annotated[int, Meta(ge=100, le=300)] | None = None


class UpstreamDNS(Spec, frozen=True, kw_only=True):
    """How names are resolved, where endpoints are known by name."""

    lookup_family: Literal["Auto", "IPv4Only", "IPv6Only", "IPv4Preferred", "All"] | None = None
    refresh_rate: Duration | None = None
    respect_ttl: bool | None = None


class Failover(Atomic, frozen=True, kw_only=True):
    """Other backends that take over, in this order, where the endpoints of one are gone or unhealthy.

    Each keeps what its own policies say of it, but for its own failover: nobody takes over for them. Without a port the
    one of the same number is meant. One in another namespace needs a ReferenceGrant there for TrafficPolicies.
    """

    backend_refs: Annotated[tuple[BackendObjectReference, ...], Meta(min_length=1, max_length=8)]


class TrafficSettings(Spec, frozen=True, kw_only=True):
    """All that a TrafficPolicy can set."""

    load_balancer: LoadBalancer | None = None
    circuit_breaker: CircuitBreaker | None = None
    outlier_detection: OutlierDetection | None = None
    health_checks: Annotated[tuple[HealthCheck, ...], Meta(max_length=4)] | None = None
    timeouts: TrafficTimeouts | None = None
    retry: TrafficRetry | None = None
    tcp_keepalive: TCPKeepalive | None = None
    http: UpstreamHTTP | None = None
    connection: UpstreamConnection | None = None
    proxy_protocol: Literal["V1", "V2"] | None = None
    preconnect: Preconnect | None = None
    dns: UpstreamDNS | None = None
    failover: Failover | None = None


class TrafficPolicySpec(TrafficSettings, frozen=True, kw_only=True):
    """What it is for, what holds unless something narrower says otherwise, and what holds whatever it says."""

    target_refs: TargetRefs
    overrides: TrafficSettings | None = None


class TrafficPolicy(Object, frozen=True, kw_only=True):
    """`fairlead.dev/v1alpha1` TrafficPolicy."""

    api_version: Literal["fairlead.dev/v1alpha1"]
    kind: Literal["TrafficPolicy"]
    spec: TrafficPolicySpec
