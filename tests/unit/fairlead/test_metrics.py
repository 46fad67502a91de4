from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.traffic import Traffic
from fairlead.metrics import METRICS, Builds, Numbers, metrics_page, reference_page
from xds.schema.type_urls import TYPE_CLUSTER
from xds.server.telemetry import Telemetry


@pytest.fixture
def numbers() -> Numbers:
    telemetry, traffic, builds = Telemetry(), Traffic(), Builds()
    telemetry.responses[TYPE_CLUSTER] = 3
    telemetry.left_out["1.38.0", TYPE_CLUSTER] = 1
    telemetry.streams_refused["busy"] = 2
    for seconds in (0.003, 0.004, 0.2, 99.0):
        telemetry.observe_ack(TYPE_CLUSTER, seconds)
    traffic.count("GET", "/api/v1/proxies", 200, 0.5)
    builds.note(seconds=0.01, rows=7)
    return Numbers(
        xds=telemetry,
        api=traffic,
        builds=builds,
        waiting=lambda: 4,
        ready=lambda: True,
        faults=lambda: 0,
        problems=lambda: {"files": 1},
        version="1.2.3",
    )


def samples(numbers: Numbers) -> dict[tuple[str, tuple[str, ...]], float]:
    """The page's samples by name and label values, in the order of the labels' names."""
    page, content_type = metrics_page(numbers)()
    assert content_type.startswith("text/plain")
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def test_numbers_come_out_as_they_were_counted(numbers: Numbers) -> None:
    found = samples(numbers)
    assert found["fairlead_xds_responses_total", ("CDS",)] == 3
    assert found["fairlead_xds_left_out_total", ("CDS", "1.38.0")] == 1
    assert found["fairlead_xds_streams_refused_total", ("busy",)] == 2
    assert found["fairlead_changes_waiting", ()] == 4
    assert found["fairlead_source_problems", ("files",)] == 1
    assert found["fairlead_build_info", ("1.2.3",)] == 1
    assert found["fairlead_api_requests_total", ("GET", "/api/v1/proxies", "200")] == 1


def test_histograms_are_cumulative_and_end_with_everything(numbers: Numbers) -> None:
    found = samples(numbers)
    name = "fairlead_xds_event_to_ack_seconds"
    buckets = [found[f"{name}_bucket", (bound, "CDS")] for bound in ("0.0025", "0.005", "0.25", "30.0", "+Inf")]
    assert buckets == [0, 2, 3, 3, 4]
    assert found[f"{name}_count", ("CDS",)] == 4
    assert found[f"{name}_sum", ("CDS",)] == pytest.approx(99.207)


def test_the_process_tells_of_itself_too(numbers: Numbers) -> None:
    assert samples(numbers)["process_resident_memory_bytes", ()] > 0


def test_every_metric_on_the_reference_page_is_on_the_metrics_page(numbers: Numbers) -> None:
    page = metrics_page(numbers)()[0].decode()
    for metric in METRICS:
        assert f"# HELP fairlead_{metric.name}" in page.replace("_total ", " ") or f"# HELP {metric.full_name}" in page


def test_the_reference_page_is_what_the_code_says(root: Path) -> None:
    assert (root / "docs/reference/metrics.md").read_text() == reference_page(), "run `make docs`"


@pytest.mark.parametrize("leading", [0, 1])
def test_who_leads_is_told_where_replicas_share_a_store(numbers: Numbers, leading: int) -> None:
    assert ("fairlead_store_leading", ()) not in samples(numbers)
    shared = msgspec.structs.replace(numbers, shared=lambda: {"leading": leading})
    assert samples(shared)["fairlead_store_leading", ()] == leading
