"""The SQLite store against a model: a dictionary, a counter and a list of everything that ever happened."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from discovery.stores.sqlite import SqliteStore
from discovery.stores.store import Conflict, Event, NotFound, Stored
from mesh.kinds.meta import ObjectMeta
from mesh.kinds.service import Service, ServicePort, ServiceSpec
from mesh.model import ObjectKey

NAMES = st.sampled_from(["a", "b", "c"])
PORTS = st.integers(1, 3)
EXPECTED = st.sampled_from(["any", "none", "right", "wrong"])


def _service(name: str, port: int) -> Service:
    return Service(
        api_version="fairlead.dev/v1alpha1",
        kind="Service",
        metadata=ObjectMeta(name=name, namespace="default"),
        spec=ServiceSpec(ports=(ServicePort(name="http", port=port),)),
    )


class StoreAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "fairlead.db"
        self.store: SqliteStore = self.run(SqliteStore.open(self.path))
        self.objects: dict[str, Stored] = {}
        self.log: list[tuple[int, str, Service | None]] = []

    def run(self, waiting: Any) -> Any:
        return self.loop.run_until_complete(waiting)

    def teardown(self) -> None:
        self.run(self.store.close())
        self.loop.close()
        self.directory.cleanup()

    def _expected(self, name: str, choice: str) -> tuple[int | None, bool]:
        actual = self.objects[name].revision if name in self.objects else 0
        expected = {"any": None, "none": 0, "right": actual, "wrong": actual + 1000}[choice]
        return expected, expected is not None and expected != actual

    @rule(name=NAMES, port=PORTS, choice=EXPECTED)
    def put(self, name: str, port: int, choice: str) -> None:
        expected, conflict = self._expected(name, choice)
        before = self.objects.get(name)
        try:
            stored = self.run(self.store.put(_service(name, port), expected=expected))
        except Conflict:
            assert conflict
            return
        assert not conflict
        if before is not None and before.object.spec == _service(name, port).spec:  # type: ignore[attr-defined]
            assert stored == before
            return
        assert stored.revision > (self.log[-1][0] if self.log else 0)
        self.objects[name] = replace(stored, created=False)  # that is said of the write, not kept
        assert stored.created == (before is None)
        self.log.append((stored.revision, name, stored.object))

    @rule(name=NAMES, choice=EXPECTED)
    def delete(self, name: str, choice: str) -> None:
        expected, conflict = self._expected(name, choice)
        try:
            revision = self.run(self.store.delete(ObjectKey("Service", "default", name), expected=expected))
        except Conflict:
            assert conflict
            return
        except NotFound:
            assert name not in self.objects
            return
        assert not conflict
        del self.objects[name]
        self.log.append((revision, name, None))

    @rule()
    def restart(self) -> None:
        self.run(self.store.close())
        self.store = self.run(SqliteStore.open(self.path))

    @precondition(lambda self: self.log)
    @rule(data=st.data())
    def watch_from_anywhere(self, data: st.DataObject) -> None:
        after = data.draw(st.sampled_from([0, *(entry[0] for entry in self.log)]))
        latest = {name: (revision, value) for revision, name, value in self.log if revision > after}
        if not latest:
            return
        watch = self.store.watch(after)
        events = self.run(anext(watch))
        self.run(watch.aclose())  # type: ignore[attr-defined]
        assert list(events) == [
            Event(ObjectKey("Service", "default", name), revision, value)
            for name, (revision, value) in sorted(latest.items(), key=lambda entry: entry[1][0])
        ]

    @invariant()
    def list_get_and_history_agree_with_the_model(self) -> None:
        snapshot = self.run(self.store.list())
        assert snapshot.objects == tuple(self.objects[name] for name in sorted(self.objects))
        assert snapshot.revision == (self.log[-1][0] if self.log else 0)
        for name in "abc":
            key = ObjectKey("Service", "default", name)
            assert self.run(self.store.get(key)) == self.objects.get(name)
            history = self.run(self.store.history(key))
            assert [(past.revision, past.object) for past in history] == [
                (revision, value) for revision, of, value in reversed(self.log) if of == name
            ]


TestStoreAgainstModel = StoreAgainstModel.TestCase
TestStoreAgainstModel.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
