from __future__ import annotations

from typing import Any

import msgspec

from discovery.kubernetes.pod_troubles import LivePod, pods_trouble
from discovery.kubernetes.provisioned import Trouble

JSON = dict[str, Any]


def pod(name: str = "edge-1", *, deleted: bool = False, **status: Any) -> LivePod:
    metadata = {"name": name, **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {})}
    return msgspec.json.decode(msgspec.json.encode({"metadata": metadata, "status": status}), type=LivePod)


def waiting(reason: str, message: str | None = None, **last: Any) -> list[JSON]:
    return [{"state": {"waiting": {"reason": reason, "message": message}}, "lastState": last}]


def told(*pods: LivePod) -> Trouble:
    found = pods_trouble(pods, "fairlead.example:18000")
    assert found is not None
    return found


def test_full_nodes_are_told_as_missing_resources() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    assert told(pod(phase="Pending", conditions=[condition])) == Trouble(
        "NoResources", "Pod edge-1 finds no node: 0/1 nodes"
    )


def test_an_image_that_cannot_be_pulled_is_told() -> None:
    found = told(pod(phase="Pending", containerStatuses=waiting("ErrImagePull", "no such host")))
    assert (found.reason, found.message) == ("Pending", "Pod edge-1 does not start: ErrImagePull: no such host")


def test_how_a_container_ended_that_is_started_again_and_again_is_told() -> None:
    ended = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    found = told(pod(phase="Running", containerStatuses=waiting("CrashLoopBackOff", "back-off", **ended)))
    assert "CrashLoopBackOff (it ended with exit code 137: OOMKilled): back-off" in found.message


def test_a_proxy_without_configuration_is_told_where_it_should_have_it_from() -> None:
    assert "fairlead.example:18000" in told(pod(phase="Running")).message


def test_what_keeps_a_pod_from_starting_goes_before_one_that_only_waits() -> None:
    assert (
        "ErrImagePull" in told(pod("a", phase="Running"), pod("b", containerStatuses=waiting("ErrImagePull"))).message
    )


def test_pods_that_start_or_end_are_no_trouble() -> None:
    starting = pod(phase="Pending", containerStatuses=waiting("ContainerCreating"))
    ending = pod("edge-2", deleted=True, phase="Running", containerStatuses=waiting("CrashLoopBackOff"))
    assert pods_trouble([starting, ending, pod("edge-3")], "") is None
    assert pods_trouble([], "") is None
