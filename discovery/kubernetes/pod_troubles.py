"""Why the pods of a Gateway do not become ready, as far as they say so themselves. Pure.

Read only when a Gateway has had no ready proxy for a while: a Deployment tells nothing of images that cannot be pulled
or nodes that are full.
"""

from __future__ import annotations

from collections.abc import Iterable

from discovery.kubernetes.provisioned import LiveCondition, Trouble
from discovery.kubernetes.wire import Meta, Wire

# A container that is on its way in one of these is well.
_USUAL = frozenset({"ContainerCreating", "PodInitializing"})


class PodMeta(Meta, frozen=True, gc=False):
    """Metadata of a Pod."""

    deletion_timestamp: str | None = None


class Waiting(Wire, frozen=True, gc=False):
    """Why a container does not run."""

    reason: str | None = None
    message: str | None = None


class Terminated(Wire, frozen=True, gc=False):
    """How a container ended."""

    reason: str | None = None
    message: str | None = None
    exit_code: int = 0


class ContainerState(Wire, frozen=True, gc=False):
    """One of several states a container is in."""

    waiting: Waiting | None = None
    terminated: Terminated | None = None


class ContainerStatus(Wire, frozen=True, gc=False):
    """A container, now and before it was started again."""

    state: ContainerState | None = None
    last_state: ContainerState | None = None


class PodStatus(Wire, frozen=True, gc=False):
    """`status` of a Pod."""

    phase: str | None = None
    conditions: list[LiveCondition] | None = None
    container_statuses: list[ContainerStatus] | None = None


class LivePod(Wire, frozen=True, gc=False):
    """A Pod that runs a proxy."""

    metadata: PodMeta
    status: PodStatus | None = None


def pods_trouble(pods: Iterable[LivePod], control_plane: str) -> Trouble | None:
    """What to tell of pods none of which is ready; `control_plane` is where their proxies get their configuration."""
    running = ""
    for pod in sorted(pods, key=lambda one: one.metadata.name):
        if pod.metadata.deletion_timestamp is not None or pod.status is None:
            continue
        for condition in pod.status.conditions or []:
            if (condition.type, condition.status, condition.reason) == ("PodScheduled", "False", "Unschedulable"):
                return Trouble("NoResources", f"Pod {pod.metadata.name} finds no node: {condition.message or ''}")
        for container in pod.status.container_statuses or []:
            if said := _container_trouble(container):
                return Trouble("Pending", f"Pod {pod.metadata.name} does not start: {said}")
        if pod.status.phase == "Running":
            running = running or pod.metadata.name
    if not running:
        return None
    said = (
        f"Pod {running} runs and is not ready: it has no configuration yet. It must reach {control_plane}; see its log."
    )
    return Trouble("Pending", said)


def _container_trouble(container: ContainerStatus) -> str:
    waiting = container.state.waiting if container.state is not None else None
    if waiting is None or not waiting.reason or waiting.reason in _USUAL:
        return ""
    ended = container.last_state.terminated if container.last_state is not None else None
    before = f" (it ended with exit code {ended.exit_code}: {ended.reason})" if ended is not None else ""
    return f"{waiting.reason}{before}: {waiting.message or 'no more is said'}"
