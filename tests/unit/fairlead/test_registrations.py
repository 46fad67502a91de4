"""Registrations hold for as long as they are heard from, on a clock of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from api.ports import Refused
from fairlead import registrations
from fairlead.registrations import Registrations
from mesh.model import DISCOVERED_ENDPOINTS
from mesh.registered import Registration, RegistrationKey
from mesh.tables import Change, Engine
from xds.translate.tables import TABLES

KEY = RegistrationKey("default", "reviews", "one")
ONE = Registration(address="192.0.2.7", ports={"http": 8080}, ttl_seconds=10)


class Kept:
    def __init__(self, documents: Mapping[str, bytes] | None = None) -> None:
        self.now = 100.0
        self.documents: dict[str, bytes] = dict(documents or {})
        self.writes = 0
        self.engine = Engine(TABLES)
        self.here = Registrations(self.engine, self.submit, save=self.save, clock=lambda: self.now)
        self.here.load(dict(self.documents))

    def submit(self, changes: Iterable[Change]) -> None:
        self.engine.commit(tuple(changes))

    def save(self, changes: Mapping[str, bytes | None]) -> None:
        self.writes += 1
        for name, body in changes.items():
            if body is None:
                self.documents.pop(name, None)
            else:
                self.documents[name] = body

    def addresses(self) -> list[str]:
        return [one.address for row in self.engine.rows(DISCOVERED_ENDPOINTS).values() for one in row.endpoints]


async def test_it_leaves_when_nothing_is_heard_of_it_and_not_before() -> None:
    kept = Kept()
    assert (await kept.here.put(KEY, ONE)).created
    kept.now += 9
    assert not (await kept.here.put(KEY, ONE)).created
    kept.now += 9
    kept.here.expire()
    assert kept.addresses() == ["192.0.2.7"]
    kept.now += 1
    kept.here.expire()
    assert (kept.addresses(), kept.documents) == ([], {})
    assert kept.here.numbers() == {"now": 0, "expired": 1}


async def test_a_heartbeat_writes_nothing_and_a_change_does() -> None:
    kept = Kept()
    await kept.here.put(KEY, ONE)
    await kept.here.put(KEY, ONE)
    assert kept.writes == 1
    await kept.here.put(KEY, Registration(address="192.0.2.8", ports={"http": 8080}))
    assert (kept.writes, kept.addresses()) == (2, ["192.0.2.8"])


async def test_after_a_restart_it_has_its_whole_time_anew() -> None:
    first = Kept()
    await first.here.put(KEY, ONE)
    second = Kept({**first.documents, "torn": b"{", "default/reviews/two": b"{"})
    assert second.addresses() == ["192.0.2.7"]
    assert list(second.documents) == [str(KEY)]
    second.now += 9.9
    second.here.expire()
    assert second.addresses() == ["192.0.2.7"]
    second.now += 0.1
    second.here.expire()
    assert second.addresses() == []


async def test_time_in_which_the_process_stood_still_does_not_count() -> None:
    kept = Kept()
    await kept.here.put(KEY, ONE)
    kept.now += 500
    kept.here.expire(planned=110)
    assert kept.addresses() == ["192.0.2.7"]
    kept.now += 10
    kept.here.expire(planned=kept.now)
    assert kept.addresses() == []


async def test_so_many_are_taken_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registrations, "MOST", 3)
    monkeypatch.setattr(registrations, "MOST_OF_A_SERVICE", 2)
    kept = Kept()
    for name in "ab":
        await kept.here.put(KEY._replace(id=name), ONE)
    with pytest.raises(Refused):
        await kept.here.put(KEY._replace(id="c"), ONE)
    await kept.here.put(KEY._replace(service="other"), ONE)
    with pytest.raises(Refused):
        await kept.here.put(KEY._replace(service="third"), ONE)
    await kept.here.put(KEY._replace(id="a"), ONE)  # a heartbeat is always taken
    assert await kept.here.delete(KEY._replace(id="a"))
    assert not await kept.here.delete(KEY._replace(id="a"))
    await kept.here.put(KEY._replace(id="c"), ONE)
