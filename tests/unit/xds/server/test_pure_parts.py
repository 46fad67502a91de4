from __future__ import annotations

from typing import Any

import pytest

from mesh.model import Audience, Upstream
from mesh.tables import Input
from tests.support.xds_client import node, until
from xds.server.admission import Admission, Rate
from xds.server.hub import Hub
from xds.server.node_identity import InvalidNodeError, identify
from xds.server.pacing import Pacer
from xds.server.serve import InsecureAddressError, XdsServer
from xds.server.telemetry import Histogram


def test_a_gateways_audience_is_its_name_and_a_clients_its_namespace() -> None:
    assert identify(node("gateway~default~edge~1")).audience == Audience("gateway", "default", "edge")
    assert identify(node("grpc~shop~client~7")).audience == Audience("grpc", "shop")


def test_only_a_gateway_is_another_audience_over_state_of_the_world() -> None:
    over_sotw = identify(node("gateway~default~edge~1"), sotw=True)
    assert over_sotw.audience == Audience("gateway", "default", "edge", sotw=True)
    for other in ("grpc~shop~client~7", "sidecar~default~reviews-1~x"):
        assert identify(node(other), sotw=True) == identify(node(other))


def test_no_node_can_say_that_it_speaks_state_of_the_world() -> None:
    said = identify(node("gateway~default~edge~1", metadata={"sotw": "true"}))
    assert said.audience == Audience("gateway", "default", "edge")


def test_a_sidecars_audience_is_its_service_with_its_ports() -> None:
    metadata = {"kind": "sidecar", "service": "reviews", "port": 80, "ingress_port": "15006", "egress_port": 15001}
    proxy = identify(node("sidecar~default~reviews-1~x", metadata=metadata))
    assert proxy.audience == Audience("sidecar", "default", "reviews", 80, 15006, 15001)


def test_a_sidecars_audience_has_its_upstreams_sorted_by_where_they_listen() -> None:
    metadata = {"kind": "sidecar", "port": 80}
    made = node("sidecar~default~cart~1", metadata=metadata)
    made.metadata.fields["fairlead"].struct_value["upstreams"] = ["6379=cache:6379", "5432=shop/db:5433"]
    proxy = identify(made)
    assert proxy.audience.upstreams == (Upstream(5432, "shop", "db", 5433), Upstream(6379, "default", "cache", 6379))
    assert "upstreams" in proxy.node.metadata.fields["fairlead"].struct_value.fields


@pytest.mark.parametrize(
    ("upstreams", "words"),
    [
        ("5432=db:5432", "must be a list of strings"),
        ([1], "must be a list of strings"),
        (["5432=db"], "each must be LISTEN="),
        (["0=db:1"], "each must be"),
        (["99999=db:1"], "each must be"),
        (["1=a/b/c:1"], "each must be"),
        (["1=Db:1"], "each must be"),
        (["1=db:1", "1=other:1"], "two want to listen at port 1"),
        (["80=db:1"], "two want to listen at port 80"),
        ([f"{n}=db:1" for n in range(1, 66)], "at most 64"),
    ],
)
def test_upstreams_of_another_form_are_refused(upstreams: Any, words: str) -> None:
    made = node("sidecar~default~cart~1", metadata={"kind": "sidecar", "port": 80})
    made.metadata.fields["fairlead"].struct_value["upstreams"] = upstreams
    with pytest.raises(InvalidNodeError, match=words):
        identify(made)


def test_envoys_version_is_read_and_its_extensions_are_not_kept() -> None:
    made = node()
    version = made.user_agent_build_version.version
    version.major_number, version.minor_number, version.patch = 1, 39, 3
    made.extensions.add(name="x")
    proxy = identify(made)
    assert proxy.version == "1.39.3"
    assert not proxy.node.extensions


def test_of_a_nodes_metadata_only_what_it_says_to_us_is_kept() -> None:
    made = node(metadata={"kind": "gateway", "service_account": "edge", "chatter": "x" * 100_000})
    made.metadata.update({"pod": {"labels": ["x" * 100_000]}})
    kept = identify(made).node
    assert kept.ByteSize() < 500
    assert dict(kept.metadata.fields["fairlead"].struct_value) == {"kind": "gateway", "service_account": "edge"}


@pytest.mark.parametrize("field", ["cluster", "user_agent_name"])
def test_a_node_that_is_large_in_what_is_kept_is_refused(field: str) -> None:
    with pytest.raises(InvalidNodeError, match="at most 8192"):
        identify(node(**{field: "x" * 100_000}))


@pytest.mark.parametrize(
    "node_id", ["", "a", "x~a~b~c", "gateway~A~b~c", "gateway~a~b~", "gateway~a~b~c~d", "gateway~a~b~" + "c" * 2000]
)
def test_an_id_of_another_form_is_refused(node_id: str) -> None:
    with pytest.raises(InvalidNodeError, match=r"node\.id"):
        identify(node(node_id))


def test_a_burst_is_let_in_the_rest_waits_in_order_and_too_long_a_queue_is_refused() -> None:
    admission = Admission(Rate(per_second=10, burst=2, patience=0.25))
    waits = [admission.wait(100.0) for _ in range(6)]
    assert waits[:2] == [0.0, 0.0]
    assert waits[2:4] == [pytest.approx(0.1), pytest.approx(0.2)]
    assert waits[4:] == [None, None]
    assert admission.wait(110.0) == 0.0


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:18000", "xds.example.com:1"])
def test_plaintext_beyond_loopback_is_refused(address: str) -> None:
    hub = Hub({}, Input("views"))
    with pytest.raises(InsecureAddressError, match="loopback only"):
        XdsServer(hub, address)
    for allowed in ("127.0.0.1:0", "[::1]:0", "localhost:0"):
        XdsServer(hub, allowed)


async def test_a_taken_port_is_an_error_that_names_it() -> None:
    hub = Hub({}, Input("views"))
    first = XdsServer(hub, "127.0.0.1:0")
    port = await first.start()
    with pytest.raises(OSError, match=str(port)):
        await XdsServer(hub, f"127.0.0.1:{port}").start()
    await first.stop(0)


class Rounds:
    """Counts rounds; the test says when they are over."""

    def __init__(self, streams: int) -> None:
        self.now = 100.0
        self.started = 0
        self._streams = streams
        self.pacer = Pacer(self._start, lambda: self.now)

    def _start(self) -> int:
        self.started += 1
        return self._streams

    def finish(self, seconds: float) -> None:
        self.now += seconds
        for _ in range(self._streams):
            self.pacer.done(self.pacer.round)


async def test_news_after_quiet_goes_out_at_once() -> None:
    rounds = Rounds(2)
    for _ in range(5):
        before = rounds.started
        rounds.pacer.request()
        assert rounds.started == before + 1
        rounds.finish(0.04)


async def test_news_during_a_round_waits_for_its_end_and_a_pause_and_goes_together() -> None:
    rounds = Rounds(2)
    rounds.pacer.request()
    for _ in range(10):
        rounds.pacer.request()
    assert rounds.started == 1
    rounds.finish(0.002)
    assert rounds.started == 1
    await until(lambda: rounds.started > 1)
    assert rounds.started == 2
    rounds.pacer.stop()


async def test_a_stream_of_an_earlier_round_does_not_end_the_present_one() -> None:
    rounds = Rounds(1)
    rounds.pacer.request()
    rounds.finish(0.01)
    rounds.pacer.request()
    rounds.pacer.done(1)
    rounds.pacer.request()
    assert rounds.started == 2
    rounds.pacer.stop()


def test_a_histogram_counts_in_buckets() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)
    assert histogram.counts == [2, 1, 1]
    assert (histogram.count, histogram.total) == (4, 12.0)
