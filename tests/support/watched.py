"""What was written to objects while somebody watched: each version of each, in its order."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.kubernetes import JSON, Cluster, eventually, kubectl


class Versions:
    """The versions of objects, by kind and name, since the watch began; the first one is what was there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, dict[str, JSON]] = {}

    def take(self, item: JSON) -> None:
        """One more version; the same one again counts once."""
        metadata = item["metadata"]
        with self._lock:
            self._seen.setdefault(f"{item['kind']}/{metadata['name']}", {})[metadata["resourceVersion"]] = item

    def of(self, name: str) -> list[JSON]:
        """The versions of an object, `Kind/name`."""
        with self._lock:
            return list(self._seen.get(name, {}).values())

    def counts(self) -> dict[str, int]:
        """How many versions there are of each."""
        with self._lock:
            return {name: len(versions) for name, versions in self._seen.items()}


@contextmanager
def watched(cluster: Cluster, namespace: str, *plurals: str) -> Iterator[Versions]:
    """Watch the objects of some kinds in a namespace, from now on; what is there already has been seen at the start."""
    versions = Versions()
    command = [*kubectl(), "--kubeconfig", str(cluster.kubeconfig), "-n", namespace, "get"]
    command += ["--watch", "--output-watch-events", "-o", "json"]
    watches = [subprocess.Popen([*command, plural], stdout=subprocess.PIPE, text=True) for plural in plurals]
    threads = [threading.Thread(target=_read, args=(watch, versions), daemon=True) for watch in watches]
    for thread in threads:
        thread.start()
    try:
        there = _there(cluster, namespace, plurals)
        eventually(lambda: there <= versions.counts().keys(), "the objects that are there to be seen")
        yield versions
    finally:
        for watch in watches:
            watch.terminate()
            watch.wait()
        for thread in threads:
            thread.join()


def _there(cluster: Cluster, namespace: str, plurals: tuple[str, ...]) -> set[str]:
    found = json.loads(cluster.kubectl("-n", namespace, "get", ",".join(plurals), "-o", "json"))
    return {f"{item['kind']}/{item['metadata']['name']}" for item in found["items"]}


def _read(watch: subprocess.Popen[str], versions: Versions) -> None:
    assert watch.stdout is not None
    with watch.stdout as lines:
        for line in lines:
            versions.take(json.loads(line)["object"])
