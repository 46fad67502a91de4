"""The services of one cluster: what was seen of Services, EndpointSlices, Pods and Nodes, as rows of the model.

Pure state, no I/O. A shell puts and removes objects in whatever order they come, and takes what that changes; objects are
reduced at once to what is used of them. The cost of a change is that of the rows it touches.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from discovery.kubernetes.wire import EndpointSlice, Key, Malformed, Node, Pod, Service
from mesh.problems import Problem
from mesh.tables import Change

Kind = Literal["Service", "EndpointSlice", "Pod", "Node"]
KINDS: tuple[Kind, ...] = ("Service", "EndpointSlice", "Pod", "Node")


class Catalog:
    """What is known of one cluster.

    Use: `put` and `remove` as news comes, then `take` what that changes. For a list: `put` all objects of all its pages,
    then `retain` the keys that were in it, malformed ones too (their last good form stands).
    """

    def __init__(self, source: str) -> None:
        """`source` is the name under which rows are written: `kubernetes:<cluster>`."""
        raise NotImplementedError

    def put(self, item: Service | EndpointSlice | Pod | Node) -> None:
        """An object is there, new or changed."""
        raise NotImplementedError

    def reject(self, kind: Kind, malformed: Malformed) -> None:
        """An object came that cannot be read: its last good form stands, and a problem tells of it."""
        raise NotImplementedError

    def remove(self, kind: Kind, key: Key) -> None:
        """An object is gone; one that never was is no error."""
        raise NotImplementedError

    def retain(self, kind: Kind, keys: Iterable[Key]) -> None:
        """Remove all objects of a kind but these: what a list that has ended shows."""
        raise NotImplementedError

    def take(self) -> tuple[Change, ...]:
        """What the news since the last call changes, sorted by table and key; empty if nothing."""
        raise NotImplementedError

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with objects at present, sorted by object."""
        raise NotImplementedError
