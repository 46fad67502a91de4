"""What only the store in Consul's KV must do: agents that die, forget, are restored or refuse, and people who meddle.

What every store must do is in `tests/unit/discovery/stores/test_store.py`, and runs there with a real agent too.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from discovery.consul.http import Answer, Consul, Target
from discovery.stores import consul_looks
from discovery.stores.consul import ConsulStore
from discovery.stores.consul_sweep import KEEP_DELETED, sweep
from discovery.stores.store import Conflict, Event, Store, StoreAway, StoreCorrupt, StoreTooNew, TooLarge
from fairlead.client import Client
from fairlead.processes import Children
from mesh.kinds.meta import ObjectMeta
from mesh.kinds.service import Service, ServiceEndpoint, ServicePort, ServiceSpec
from mesh.model import ObjectKey
from tests.support.certificates import Authority
from tests.support.consul import ConsulAgent
from tests.support.consul_server import MANAGEMENT, ConsulServer

PREFIX = "fairlead"
KEY = ObjectKey("Service", "default", "reviews")
AT = f"{PREFIX}/objects/Service/default/reviews"

Opener = Callable[..., ConsulStore]


def service(name: str = "reviews", port: int = 80, *, ballast: str = "") -> Service:
    annotations = {f"ballast-{n}": ballast[n : n + 50_000] for n in range(0, len(ballast), 50_000)}
    return Service(
        api_version="fairlead.dev/v1alpha1",
        kind="Service",
        metadata=ObjectMeta(name=name, namespace="default", annotations=annotations),
        spec=ServiceSpec(
            ports=(ServicePort(name="http", port=port),), endpoints=(ServiceEndpoint(address="127.0.0.1"),)
        ),
    )


def noise(size: int) -> str:
    """What cannot be compressed below three quarters."""
    return base64.b64encode(os.urandom(size)).decode()[:size]


@pytest.fixture
async def open_store() -> AsyncIterator[Opener]:
    opened: list[ConsulStore] = []

    def opener(url: str, **more: str) -> ConsulStore:
        identity = more.pop("identity", "")
        opened.append(ConsulStore(Consul(Target(url=url, **more)), PREFIX, identity=identity))
        return opened[-1]

    yield opener
    for store in opened:
        await store.close()


@pytest.fixture
def server(consul: Path, children: Children) -> ConsulServer:
    """A server that keeps what it is told."""
    return ConsulServer(children, consul).start()


async def following(watch: AsyncIterator[tuple[Event, ...]]) -> tuple[Event, ...]:
    return await asyncio.wait_for(anext(watch), 60)


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = asyncio.get_running_loop().time() + 60
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, what
        await asyncio.sleep(0.02)


async def refused(store: Store, words: str) -> None:
    with pytest.raises(StoreAway, match=words):
        await store.put(service("late"))


async def refusal_of(store: Store) -> str:
    """Why a write is refused; empty where it is not."""
    try:
        await store.put(service())
    except StoreAway as error:
        return str(error)
    return ""


def kv(agent: ConsulAgent | ConsulServer, method: str, at: str, body: bytes | None = None) -> bytes:
    """What a person does with `consul kv`."""
    return agent.client.request(method, f"/v1/kv/{at}", raw=body).body


# -- size and history ------------------------------------------------------------------------------------------------


async def test_what_is_larger_than_512_kb_is_refused_with_that_reason_and_nothing_is_written(
    agent: ConsulAgent, open_store: Opener
) -> None:
    store = open_store(agent.url)
    kept = await store.put(service())
    with pytest.raises(TooLarge, match=r"Service default/reviews takes \d+ bytes .*524288 \(512 kB.*Split"):
        await store.put(service(ballast=noise(700_000)))
    assert await store.get(KEY) == replace(kept, created=False)
    assert [past.revision for past in await store.history(KEY)] == [kept.revision]


async def test_a_large_object_that_can_be_compressed_is_kept_with_its_history(
    agent: ConsulAgent, open_store: Opener
) -> None:
    store = open_store(agent.url)
    large = await store.put(service(ballast="x" * 2_000_000))
    assert await store.get(KEY) == replace(large, created=False)
    small = await store.put(service())
    assert [past.object for past in await store.history(KEY)] == [small.object, large.object]


async def test_an_object_that_fits_only_without_its_past_in_the_same_write_keeps_its_past_too(
    agent: ConsulAgent, open_store: Opener
) -> None:
    store = open_store(agent.url)
    first = await store.put(service(ballast=noise(300_000)))
    second = await store.put(service(ballast=noise(300_000)))
    assert [past.object for past in await store.history(KEY)] == [second.object, first.object]
    assert await store.past(KEY, first.revision) is not None


async def test_a_person_can_read_what_is_kept(agent: ConsulAgent, open_store: Opener) -> None:
    await open_store(agent.url).put(service(), by="ann")
    found = json.loads(kv(agent, "GET", f"{AT}?raw"))
    assert (found["by"], found["object"]["spec"]["ports"][0]["port"]) == ("ann", 80)


async def test_the_sweep_keeps_the_newest_revisions_and_what_was_deleted_lately(
    agent: ConsulAgent, open_store: Opener
) -> None:
    store = open_store(agent.url)
    store.history_limit = 3
    for port in range(80, 90):
        last = await store.put(service(port=port))
    await store.put(service("gone"))
    await store.delete(ObjectKey("Service", "default", "gone"))
    now = datetime.now(UTC)
    assert await sweep(store, now) == 6
    assert [past.object.spec.ports[0].port for past in await store.history(KEY)] == [89, 88, 87, 86]  # type: ignore[union-attr]
    assert len(await store.history(ObjectKey("Service", "default", "gone"))) == 2
    assert await sweep(store, now + KEEP_DELETED + timedelta(days=1)) == 3, "and the page of a writer that is gone"
    assert await store.history(ObjectKey("Service", "default", "gone")) == ()
    assert await store.get(KEY) == last


# -- what a change costs ---------------------------------------------------------------------------------------------


class Counting(Consul):
    """Counts the bytes of answers."""

    read = 0

    async def _request(self, *arguments: Any) -> Answer:
        answer = await super()._request(*arguments)
        self.read += len(answer.body)
        return answer


async def test_a_change_among_many_objects_is_heard_of_by_reading_it_alone(
    agent: ConsulAgent, open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consul_looks, "VERIFY_SECONDS", 3600.0)
    monkeypatch.setattr(consul_looks, "VERIFY_BYTES_PER_SECOND", 1)
    writer, counting = open_store(agent.url), Counting(Target(url=agent.url))
    for n in range(100):
        await writer.put(service(f"service-{n}", ballast="x" * 2_000))
    reader = ConsulStore(counting, PREFIX)
    try:
        watch = reader.watch(0)
        assert len(await following(watch)) == 100
        counting.read = 0
        for port in range(81, 91):
            stored = await writer.put(service("service-7", port))
            assert await following(watch) == (Event(KEY._replace(name="service-7"), stored.revision, stored.object),)
        assert 0 < counting.read < 100_000, "the whole is more than 2 MB, ten times"
        many = await asyncio.gather(*(writer.put(service(f"service-{n}", 99)) for n in range(100)))
        heard: dict[str, int] = {}
        while len(heard) < 100:
            heard |= {event.key.name: event.revision for event in await following(watch)}
        assert heard == {stored.object.metadata.name: stored.revision for stored in many}
    finally:
        await reader.close()


async def test_what_a_person_writes_just_before_another_write_is_found_a_little_later(
    agent: ConsulAgent, open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consul_looks, "VERIFY_SECONDS", 3600.0)  # what is small is read again sooner
    store = open_store(agent.url)
    watch = await two_watched(store)
    kv(agent, "DELETE", AT)  # nobody looks in between
    await store.put(service("ratings", 81))
    assert [event.key.name for event in await following(watch)] == ["ratings"]
    (removed,) = await following(watch)
    assert (removed.key, removed.object) == (KEY, None)


# -- several at once -------------------------------------------------------------------------------------------------


async def test_what_one_replica_writes_another_reads_and_hears_of(agent: ConsulAgent, open_store: Opener) -> None:
    one, two = open_store(agent.url), open_store(agent.url)
    watch = two.watch((await two.list()).revision)
    hearing = asyncio.get_running_loop().create_task(following(watch))
    stored = await one.put(service())
    assert await hearing == (Event(KEY, stored.revision, stored.object),)
    assert await two.get(KEY) == replace(stored, created=False)
    removed = await two.delete(KEY)
    assert await following(watch) == (Event(KEY, removed, None),)
    assert one.identity == two.identity != ""


async def test_of_replicas_that_expect_one_revision_one_wins_and_those_that_expect_nothing_all_do(
    agent: ConsulAgent, open_store: Opener
) -> None:
    stores = [open_store(agent.url) for _ in range(4)]
    first = await stores[0].put(service())
    outcomes = await asyncio.gather(
        *(store.put(service(port=100 + n), expected=first.revision) for n, store in enumerate(stores)),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == len(stores) - 1, outcomes
    written = await asyncio.gather(*(store.put(service(port=200 + n)) for n, store in enumerate(stores)))
    assert len({stored.revision for stored in written}) == len(stores)
    assert len(await stores[1].history(KEY)) == 2 + len(stores), "what was written over is in the history"
    newest = max(written, key=lambda stored: stored.revision)
    assert await stores[2].get(KEY) == newest


async def test_two_that_begin_at_once_begin_one_store(agent: ConsulAgent, open_store: Opener) -> None:
    stores = [open_store(agent.url) for _ in range(8)]
    await asyncio.gather(*(store.list() for store in stores))
    assert len({store.identity for store in stores}) == 1


# -- people who meddle -----------------------------------------------------------------------------------------------


async def two_watched(store: ConsulStore) -> AsyncIterator[tuple[Event, ...]]:
    """A watch of a store that gets two objects, and has told of them."""
    await store.put(service())
    await store.put(service("ratings"))
    watch = store.watch(0)
    assert len(await following(watch)) == 2
    return watch


async def test_what_a_person_removes_or_spoils_in_kv_is_heard_of_and_the_rest_lives_on(
    agent: ConsulAgent, open_store: Opener
) -> None:
    store = open_store(agent.url)
    watch = await two_watched(store)
    kv(agent, "PUT", f"{PREFIX}/objects/Service/default/ratings", b'{"object": {"kind": "Serv')
    (spoilt,) = await following(watch)
    assert (spoilt.key.name, spoilt.object, bool(spoilt.error)) == ("ratings", None, True)
    bare = b'{"apiVersion": "fairlead.dev/v1alpha1", "kind": "Service", "metadata": {"name": "ratings"}, "spec": {}}'
    kv(agent, "PUT", f"{PREFIX}/objects/Service/default/ratings", bare)
    (spoilt,) = await following(watch)
    assert (spoilt.key.name, spoilt.object, bool(spoilt.error)) == ("ratings", None, True)
    kv(agent, "DELETE", AT)
    (removed,) = await following(watch)
    assert (removed.key, removed.object, removed.restored) == (KEY, None, True)
    kv(agent, "PUT", f"{PREFIX}/objects/what/is/this/about", b"a key that is none of ours")
    snapshot = await store.list()
    assert (snapshot.objects, [row.key.name for row in snapshot.unreadable]) == ((), ["ratings"])
    with pytest.raises(StoreCorrupt, match="cannot be read"):
        await store.get(ObjectKey("Service", "default", "ratings"))
    mended = await store.put(service("ratings"))
    assert (await store.list()).objects == (replace(mended, created=False),)


async def test_what_a_person_writes_beside_and_into_the_stores_own_keys_harms_nobody(
    agent: ConsulAgent, open_store: Opener
) -> None:
    store = open_store(agent.url)
    watch = await two_watched(store)
    deep = b'{"by": "", "at": "", "object": %s}' % (b"[" * 100_000 + b"]" * 100_000)
    kv(agent, "PUT", f"{PREFIX}/objects/Service/default/ratings", deep)
    (spoilt,) = await following(watch)
    assert (spoilt.key.name, spoilt.object, bool(spoilt.error)) == ("ratings", None, True)
    for at in ("notes", "007", "9" * 40, "%C2%B2"):
        kv(agent, "PUT", f"{PREFIX}/history/Service/default/reviews/{at}", b"not ours")
    for at in ("somebody", "else/below", "%20"):
        kv(agent, "PUT", f"{PREFIX}/journal/{at}", deep)
    second = await store.put(service(port=81))
    newest, *_ = await store.history(KEY)
    assert newest.revision == second.revision
    assert [event.revision for event in await following(watch)] == [second.revision]
    await sweep(store, store.now())
    third = await store.put(service(port=82))
    assert [event.revision for event in await following(watch)] == [third.revision]


async def test_a_snapshot_that_is_restored_counts_though_its_revisions_are_older(
    agent: ConsulAgent, open_store: Opener
) -> None:
    store = open_store(agent.url)
    old = await store.put(service())
    copy = agent.client.request("GET", "/v1/snapshot").body
    new = await store.put(service(port=81))
    await store.put(service("ratings"))
    watch = store.watch((await store.list()).revision - 1)
    await following(watch)
    agent.client.request("PUT", "/v1/snapshot", raw=copy)
    heard: dict[str, Event] = {}
    while len(heard) < 2:
        heard |= {event.key.name: event for event in await following(watch)}
    assert (heard["reviews"].object, heard["reviews"].restored) == (old.object, True)
    assert (heard["ratings"].object, heard["ratings"].restored) == (None, True)
    again = await store.put(service(port=82))
    assert again.revision > new.revision, "no number is used twice"


async def test_a_kv_that_forgot_all_is_not_believed_until_it_is_restored(
    agent: ConsulAgent, open_store: Opener
) -> None:
    store = open_store(agent.url)
    stored = await store.put(service())
    watch = store.watch(0)
    assert len(await following(watch)) == 1
    exported = agent.client.request("GET", f"/v1/kv/{PREFIX}/?recurse")
    hearing = asyncio.get_running_loop().create_task(following(watch))
    kv(agent, "DELETE", f"{PREFIX}/?recurse")
    await until(lambda: bool(store.problems), "the problem to be told")
    assert "does not hold the store any more" in store.problems[0].message
    assert not hearing.done(), "nothing is deleted"
    await refused(store, "does not hold the store any more.*Restore the KV")
    newcomer = open_store(agent.url, identity=store.identity)
    with pytest.raises(StoreAway, match="does not hold the store"):
        await newcomer.list()
    for pair in json.loads(exported.body):  # as `consul kv import` does
        kv(agent, "PUT", pair["Key"], base64.b64decode(pair["Value"] or ""))
    (heard,) = await hearing
    assert (heard.key, heard.object.spec if heard.object else None) == (KEY, stored.object.spec)  # type: ignore[attr-defined]
    await store.put(service("ratings"))
    await following(watch)
    assert store.problems == ()


async def test_another_store_or_a_newer_one_at_the_prefix_is_refused(agent: ConsulAgent, open_store: Opener) -> None:
    store = open_store(agent.url)
    await store.put(service())
    marker = f"{PREFIX}/objects/@store"
    kv(agent, "PUT", marker, b'{"format": 1, "id": "another"}')
    await refused(store, "holds another store")
    kv(agent, "PUT", marker, b'{"format": 99, "id": "another"}')
    with pytest.raises(StoreTooNew, match="format 99"):
        await open_store(agent.url).list()
    kv(agent, "PUT", marker, b"hello")
    with pytest.raises(StoreCorrupt, match="Choose another prefix"):
        await open_store(agent.url).list()


# -- Consul that is away ---------------------------------------------------------------------------------------------


async def test_while_consul_is_away_writes_are_refused_with_words_and_what_was_written_is_there_after(
    server: ConsulServer, open_store: Opener
) -> None:
    store = open_store(server.url)
    kept = await store.put(service())
    told: list[int] = []
    store.on_problems = lambda: told.append(len(store.problems))
    watch = store.watch(kept.revision)
    hearing = asyncio.get_running_loop().create_task(following(watch))
    await asyncio.to_thread(server.kill)
    await refused(store, r"does not answer .* whether this was written is not known|does not answer")
    await until(lambda: told[:1] == [1], "the watch to tell of it")
    await asyncio.to_thread(server.start)
    await until(lambda: told[-1] == 0, "the watch to tell that it is over")
    assert not hearing.done(), "nothing changed, and nothing is told"
    late = await store.put(service("late"))
    assert await hearing == (Event(ObjectKey("Service", "default", "late"), late.revision, late.object),)
    assert await store.get(KEY) == replace(kept, created=False)


async def test_a_token_that_may_not_is_told_and_one_that_may_is_taken_from_the_file_at_the_next_try(
    consul: Path, children: Children, tmp_path: Path, open_store: Opener
) -> None:
    acl = {"acl": {"enabled": True, "default_policy": "deny", "tokens": {"master": MANAGEMENT}}}
    server = await asyncio.to_thread(ConsulServer(children, consul, config=acl).start)
    token = tmp_path / "token"
    token.write_text("99999999-0000-0000-0000-000000000000\n")
    store = open_store(server.url, token_file=str(token))

    denied = ""
    while "key_prefix" not in denied:  # until the server knows of its own ACLs it says something else
        with pytest.raises(StoreAway) as refusal:
            await store.list()
        denied = str(refusal.value)
    assert "99999999" not in denied, "a token is in no message"
    token.write_text(MANAGEMENT)
    refusals = ["ACL not found"]  # the server may take a while to know its own token
    while refusals[-1:] != [""]:
        assert "ACL not found" in refusals[-1]
        refusals.append(await refusal_of(store))
    assert await store.get(KEY) is not None


async def test_a_token_that_may_read_only_is_told_so_and_what_is_there_is_served(
    consul: Path, children: Children, tmp_path: Path, open_store: Opener
) -> None:
    acl = {"acl": {"enabled": True, "default_policy": "deny", "tokens": {"master": MANAGEMENT}}}
    server = await asyncio.to_thread(ConsulServer(children, consul, config=acl).start)
    token = tmp_path / "token"
    token.write_text(MANAGEMENT)
    store = open_store(server.url, token_file=str(token))
    refusals = [await refusal_of(store)]
    while refusals[-1]:  # the server may take a while to know its own token
        refusals.append(await refusal_of(store))
    admin = Client(server.url, timeout=30, token=MANAGEMENT)
    rules = {"Name": "readers", "Rules": 'key_prefix "" { policy = "read" }'}
    which = admin.request("PUT", "/v1/acl/policy", body=rules).json()["ID"]
    made = admin.request("PUT", "/v1/acl/token", body={"Policies": [{"ID": which}]}).json()
    token.write_text(made["SecretID"])
    assert await store.get(KEY) is not None
    with pytest.raises(StoreAway, match=r"does not let this server write its KV.*Permission denied"):
        await store.put(service(port=81))
    with pytest.raises(StoreAway, match=r"Permission denied"):
        await store.delete(KEY)


async def test_over_tls_with_a_client_certificate(
    consul: Path, children: Children, tmp_path: Path, open_store: Opener
) -> None:
    authority = Authority(tmp_path)
    mine, its = authority.proxy("client", "spiffe://cluster.local/fairlead"), authority.server("agent")
    server = ConsulServer(
        children,
        consul,
        config={
            "ca_file": str(authority.ca),
            "cert_file": str(its.cert),
            "key_file": str(its.key),
            "verify_incoming_https": True,
        },
    )
    whole = json.loads(server.config.read_text())
    whole["ports"]["https"] = server.https_port
    server.config.write_text(json.dumps(whole))
    await asyncio.to_thread(server.start)
    url = f"https://127.0.0.1:{server.https_port}"
    files = {"certificate_file": str(mine.cert), "key_file": str(mine.key)}
    store = open_store(url, ca_file=str(authority.ca), **files)
    stored = await store.put(service())
    assert await store.get(KEY) == replace(stored, created=False)
    with pytest.raises(StoreAway):
        await open_store(url, **files).list()
    with pytest.raises(StoreAway):
        await open_store(url, ca_file=str(authority.ca)).list()


async def test_without_a_leader_nothing_is_written_and_it_is_told(
    consul: Path, children: Children, open_store: Opener
) -> None:
    alone = ConsulServer(children, consul, config={"bootstrap_expect": 2})
    await asyncio.to_thread(alone.start, leads=False)
    store = open_store(alone.url)
    with pytest.raises(StoreAway, match="See that Consul has a leader"):
        await store.list()
    await refused(store, "has a leader")


@pytest.mark.parametrize("body", [b"", b"[{", b"{}", b"<html>hello</html>", b"\xff\xfe"])
async def test_what_answers_but_is_no_consul_is_told(body: bytes, open_store: Opener) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as stranger:
        store = open_store(f"http://127.0.0.1:{stranger.sockets[0].getsockname()[1]}")
        with pytest.raises(StoreAway, match="cannot be read"):
            await store.list()
        await refused(store, "cannot be read")
