"""The Prometheus page: every metric named and explained once, its numbers read from where they are counted.

Nothing else knows Prometheus. `docs/reference/metrics.md` is made from this module (`make docs`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from fairlead.views import code
from xds.server.telemetry import Histogram

Labels = Sequence[str]
Value = float | Histogram
Samples = Iterable[tuple[Labels, Value]]


class Numbers(msgspec.Struct, frozen=True):
    """Where the numbers are. `xds` is the hub's `Telemetry`, `api` the API's `Traffic`; the rest is asked for."""

    xds: Any
    api: Any
    builds: Builds
    waiting: Callable[[], int]
    ready: Callable[[], bool]
    faults: Callable[[], int]
    problems: Callable[[], Mapping[str, int]]
    version: str
    authority: Callable[[], Mapping[str, Any]] = dict
    workload_api: Callable[[], Mapping[str, float]] = dict
    registered: Callable[[], Mapping[str, int]] = dict
    shared: Callable[[], Mapping[str, int]] = dict
    consul: Callable[[], Mapping[str, Mapping[str, float]]] = dict
    key_sets: Callable[[], Mapping[str, Mapping[str, float]]] = dict
    rollouts: Callable[[], Mapping[str, Mapping[str, int]]] = dict


class Builds:
    """Counts of commits, kept by `note`."""

    def __init__(self) -> None:
        self.seconds = Histogram()
        self.rows = 0

    def note(self, *, seconds: float, rows: int) -> None:
        """A commit derived `rows` rows in `seconds`."""
        self.seconds.observe(seconds)
        self.rows += rows


class Described(msgspec.Struct, frozen=True):
    """One metric: its name without the prefix and Prometheus' suffixes, and how its samples are read."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    read: Callable[[Numbers], Samples]
    labels: tuple[str, ...] = ()
    unit: str = ""

    @property
    def full_name(self) -> str:
        """The name as a query has it."""
        return f"fairlead_{self.name}{'_total' if self.type == 'counter' else ''}"


def _one(value: Value) -> Samples:
    return [((), value)]


def _known(numbers: Mapping[str, Any], name: str) -> Samples:
    """A number that is there only with what it is about."""
    return _one(numbers[name]) if name in numbers else ()


def _of_consul(numbers: Numbers, name: str) -> Samples:
    """Numbers that are there only with Consul."""
    return [((label,) if label else (), value) for label, value in sorted(numbers.consul().get(name, {}).items())]


def _by(counter: Mapping[str, float]) -> Samples:
    return [((label,), count) for label, count in sorted(counter.items())]


def _by_type(counter: Mapping[str, Value]) -> Samples:
    return [((code(type_url),), value) for type_url, value in sorted(counter.items())]


METRICS = (
    Described("ready", "gauge", "1 when proxies are served.", lambda n: _one(float(n.ready()))),
    Described(
        "build_info", "gauge", "Always 1; the version is in the label.", lambda n: [((n.version,), 1)], ("version",)
    ),
    Described(
        "xds_event_to_ack_seconds",
        "histogram",
        "From a change at its source until a proxy has acknowledged it.",
        lambda n: _by_type(n.xds.event_to_ack),
        ("type",),
    ),
    Described("xds_responses", "counter", "Responses sent to proxies.", lambda n: _by_type(n.xds.responses), ("type",)),
    Described("xds_resources", "counter", "Resources in them.", lambda n: _by_type(n.xds.resources), ("type",)),
    Described("xds_sent_bytes", "counter", "Their bytes.", lambda n: _by_type(n.xds.bytes_sent), ("type",)),
    Described("xds_acks", "counter", "Responses that proxies acknowledged.", lambda n: _by_type(n.xds.acks), ("type",)),
    Described("xds_nacks", "counter", "Responses that proxies refused.", lambda n: _by_type(n.xds.nacks), ("type",)),
    Described("xds_streams", "gauge", "Open xDS streams.", lambda n: _one(n.xds.streams)),
    Described(
        "xds_streams_ended",
        "counter",
        "Streams that ended: closed (by the proxy), aged, drained, stuck, refused, error.",
        lambda n: _by(n.xds.streams_ended),
        ("reason",),
    ),
    Described(
        "xds_streams_refused",
        "counter",
        "Streams that were not let in: not_ready, busy, unauthenticated, unreviewed, invalid.",
        lambda n: _by(n.xds.streams_refused),
        ("reason",),
    ),
    Described(
        "xds_left_out",
        "counter",
        "Resources kept from proxies whose version does not know them.",
        lambda n: [((version, code(url)), count) for (version, url), count in sorted(n.xds.left_out.items())],
        ("version", "type"),
    ),
    Described("xds_fan_outs", "counter", "Times that changes were handed to streams.", lambda n: _one(n.xds.fan_outs)),
    Described(
        "xds_lag_seconds",
        "gauge",
        "Age of the oldest change when changes were last handed to streams.",
        lambda n: _one(n.xds.lag_seconds),
    ),
    Described("changes_waiting", "gauge", "Changes that wait to be derived.", lambda n: _one(n.waiting())),
    Described("build_seconds", "histogram", "Time to derive a batch of changes.", lambda n: _one(n.builds.seconds)),
    Described("build_rows", "counter", "Rows that were derived.", lambda n: _one(n.builds.rows)),
    Described(
        "faults", "gauge", "Rows that failed to derive and keep their last good value.", lambda n: _one(n.faults())
    ),
    Described("source_problems", "gauge", "What is wrong in the sources.", lambda n: _by(n.problems()), ("source",)),
    Described(
        "consul_services",
        "gauge",
        "Services that were found in Consul, by datacenter.",
        lambda n: _of_consul(n, "services"),
        ("source",),
    ),
    Described(
        "consul_services_stale",
        "gauge",
        "Those of them that stand as they were last known, for Consul cannot be asked.",
        lambda n: _of_consul(n, "stale"),
        ("source",),
    ),
    Described(
        "consul_queries",
        "gauge",
        "Blocking queries: open, allowed (to be open at once) and wanted (one for each service).",
        lambda n: _of_consul(n, "polls"),
        ("state",),
    ),
    Described(
        "consul_cycle_seconds",
        "gauge",
        "After how long at most a service that is needed is asked for again; 0 while its query is open all the time.",
        lambda n: _of_consul(n, "cycle"),
    ),
    Described(
        "consul_failures",
        "counter",
        "Queries without a good answer: Unreachable, Forbidden, RateLimited, NoLeader, NoPath, NotEnterprise, Failed, "
        "Unreadable, TooOld.",
        lambda n: _of_consul(n, "failures"),
        ("reason",),
    ),
    Described(
        "store_leading",
        "gauge",
        "1 on the replica that leads, 0 on the others; where replicas share a store.",
        lambda n: _known(n.shared(), "leading"),
    ),
    Described(
        "registrations",
        "gauge",
        "Instances that registered themselves and are heard from.",
        lambda n: _known(n.registered(), "now"),
    ),
    Described(
        "registrations_expired",
        "counter",
        "Instances that left because nothing was heard of them.",
        lambda n: _known(n.registered(), "expired"),
    ),
    Described(
        "jwks_fetches",
        "counter",
        "Times that the keys of a token issuer were asked for: ok, failed.",
        lambda n: _by(n.key_sets().get("fetches", {})),
        ("result",),
    ),
    Described(
        "jwks_sets",
        "gauge",
        "Addresses of such keys: known, outdated (away, the last good ones stand), unknown (no token is valid).",
        lambda n: _by(n.key_sets().get("sets", {})),
        ("state",),
    ),
    Described(
        "jwks_oldest_seconds",
        "gauge",
        "Seconds since the keys were fetched that were not fetched for longest; 0 before any were.",
        lambda n: [((), value) for value in n.key_sets().get("oldest", {}).values()],
    ),
    Described(
        "rollouts",
        "gauge",
        "Rollouts: Pending, Progressing, Paused, Promoted, RolledBack.",
        lambda n: _by(n.rollouts().get("phases", {})),
        ("phase",),
    ),
    Described(
        "rollout_transitions",
        "counter",
        "Times that a Rollout came to another phase.",
        lambda n: _by(n.rollouts().get("transitions", {})),
        ("phase",),
    ),
    Described(
        "ca_issued", "counter", "Certificates of workloads that were signed.", lambda n: _known(n.authority(), "issued")
    ),
    Described(
        "ca_ends_seconds",
        "gauge",
        "Seconds until a trusted authority ends.",
        lambda n: n.authority().get("left", ()),
        ("authority", "state"),
    ),
    Described(
        "ca_proxies_waiting",
        "gauge",
        "Proxies that do not trust the prepared authority yet, those that were connected a moment ago too.",
        lambda n: _known(n.authority(), "waiting"),
    ),
    Described(
        "ca_alarms",
        "counter",
        "Times that an authority began to sign although proxies did not trust it, having waited long enough.",
        lambda n: _known(n.authority(), "alarms"),
    ),
    Described(
        "workload_api_followed",
        "gauge",
        "1 while SPIFFE's Workload API tells the xDS server who it is, 0 while the last answer stands.",
        lambda n: _known(n.workload_api(), "followed"),
    ),
    Described(
        "workload_api_certificate_ends_seconds",
        "gauge",
        "Seconds until the certificate ends that it gave.",
        lambda n: _known(n.workload_api(), "left"),
    ),
    Described(
        "api_requests",
        "counter",
        "Requests to the API.",
        lambda n: [((m, route, str(status)), count) for (m, route, status), count in sorted(n.api.requests.items())],
        ("method", "route", "status"),
    ),
    Described(
        "api_seconds",
        "counter",
        "Time that they took together.",
        lambda n: [(labels, seconds) for labels, seconds in sorted(n.api.seconds.items())],
        ("method", "route"),
    ),
)


class _Reader(Collector):
    """Reads all numbers when Prometheus asks."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def collect(self) -> Iterator[Metric]:
        """Every metric with its present samples."""
        for described in METRICS:
            yield _family(described, described.read(self._numbers))


def _family(described: Described, samples: Samples) -> Metric:
    name = f"fairlead_{described.name}"
    if described.type == "histogram":
        histogram = HistogramMetricFamily(name, described.help, labels=described.labels)
        for labels, value in samples:
            assert isinstance(value, Histogram)
            histogram.add_metric(list(labels), buckets=_buckets(value), sum_value=value.total)
        return histogram
    kind = CounterMetricFamily if described.type == "counter" else GaugeMetricFamily
    family = kind(name, described.help, labels=described.labels)
    for labels, value in samples:
        assert not isinstance(value, Histogram)
        family.add_metric(list(labels), float(value))
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Prometheus' buckets are cumulative, ours are not."""
    bounds = [*map(str, histogram.bounds), "+Inf"]
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip(bounds, histogram.counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets


def metrics_page(numbers: Numbers) -> Callable[[], tuple[bytes, str]]:
    """A function that gives the page, with Python's and the process' own metrics, and its content type."""
    registry = CollectorRegistry()
    registry.register(_Reader(numbers))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return lambda: (generate_latest(registry), CONTENT_TYPE_LATEST)


def reference_page() -> str:
    """`docs/reference/metrics.md`, whole."""
    rows = [
        f"| `{one.full_name}` | {one.type} | {', '.join(f'`{label}`' for label in one.labels)} | {one.help} |"
        for one in METRICS
    ]
    return "\n".join([_PAGE_HEAD, *rows, ""])


_PAGE_HEAD = """\
# Metrics

Made from `fairlead/metrics.py` by `make docs`; do not edit.

`GET /metrics` has these, and Python's and the process' own (`process_…`, `python_…`). `type` is `CDS`, `EDS` and so on.

| metric | type | labels | meaning |
|---|---|---|---|"""


if __name__ == "__main__":
    sys.stdout.write(reference_page())
