"""`fairlead serve`: the one place where all parts are wired together, and the order in which they start and stop.

Start: bind both addresses → open the store → read every source → first build → let proxies in. `/healthz` answers from
the second step on, `/readyz` from the last. Stop, at SIGTERM: no new streams, open ones close spread over the drain
time, requests end, the store closes last. A second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, cast

from api.access import Access
from api.app import create_app
from api.feed import Feed
from api.ports import Parsed, SourceProblem
from discovery.copies import Copies
from discovery.files.folder import FilesSource
from discovery.files.yaml_documents import documents
from discovery.source import Source
from discovery.stores.sqlite import SqliteStore
from discovery.stores.store import StoreUnavailable
from fairlead import audiences, memory, registrations, rejections
from fairlead.acknowledged import Acknowledgements
from fairlead.addresses import Address, parse_address
from fairlead.audiences import Audiences
from fairlead.builder import Builder
from fairlead.consul.source import ConsulWay
from fairlead.errors import CommandError, UsageError, oserror_words
from fairlead.http_server import HttpServer
from fairlead.identities.api_tls import api_tls
from fairlead.identities.key_sets import KeySets
from fairlead.identities.root_witness import StreamWitness
from fairlead.identities.system_trust import system_trust
from fairlead.kubernetes.clusters import Clusters
from fairlead.lanes import Batch, Lanes
from fairlead.listening import allow_many_connections, bind, cannot_listen, stream_limits
from fairlead.mesh_row import mesh_row
from fairlead.metrics import Builds, Numbers, metrics_page
from fairlead.problem_log import FaultLog, ProblemLog
from fairlead.registrations import Registrations
from fairlead.rejections import Rejections, refusal_words
from fairlead.rollouts.way import RolloutWay
from fairlead.security import TlsOf, accounts_of, by_own_authority, tokens_address
from fairlead.settings import Settings
from fairlead.stores.documents import DocumentWriter
from fairlead.stores.shared_store import shared_store
from fairlead.stores.store_place import in_consul, store_path
from fairlead.stores.store_source import SOURCE, StoreSource
from fairlead.tasks import Tasks
from fairlead.versions import own_version
from fairlead.views import load_reports
from fairlead.world import World
from mesh.model import MESH, SYSTEM_TRUST, Audience
from mesh.objects import OBJECTS
from mesh.services import SERVICES
from mesh.statuses import STATUSES
from mesh.tables import Change, Commit, Engine
from xds.protocol.ordering import Patience
from xds.protocol.rejections import NackReport
from xds.server.authentication import as_tls_did
from xds.server.hub import Hub
from xds.server.serve import InsecureAddressError, Tokens, XdsServer
from xds.server.server_certificates import ServerCertificate
from xds.translate.tables import RESOURCE_TABLES, TABLES, VIEWS

if TYPE_CHECKING:
    from fairlead.identities.authority import Identities
    from fairlead.identities.authority_desk import AuthorityDesk
    from fairlead.identities.identity_way import IdentityWay
    from fairlead.identities.tokens import TokenWay
    from fairlead.identities.workload_api import WorkloadApi

_log = logging.getLogger(__name__)

_TELL_SECONDS = 1.0
_ENVOY_TABLES = frozenset(table for tables in RESOURCE_TABLES.values() for table in tables)


class Server:
    """One running control plane. `tls=None` serves xDS in plaintext; `access` says who may use the API.

    `store` is what this process keeps for itself, objects too unless they are in one that replicas share.
    """

    def __init__(self, settings: Settings, store: SqliteStore, *, tls: TlsOf, access: Access) -> None:
        self._settings = settings
        self._store = store
        self._shared = shared_store(settings, store)
        self._lanes = Lanes(quiet_period=settings.quiet_period, quiet_period_max=settings.quiet_period_max)
        self._engine = Engine(TABLES)
        self._builder = Builder(self._engine, self._lanes, clock=time.monotonic)
        self._hub = Hub(
            RESOURCE_TABLES,
            VIEWS,
            patience=Patience(grace=settings.removal_grace, leave=settings.removal_timeout),
        )
        self._clusters = Clusters(settings, store, self._engine)
        self._workload_api = cast("WorkloadApi", tls) if settings.xds_workload_api else None
        self._identities = self._what_is_of_identities()
        self._token_way = self._way_for_tokens()
        accounts = accounts_of(self._engine)
        tokens = self._token_way.tokens if self._token_way is not None else None
        way = self._identity_way = self._way_by_identities(accounts, tokens)
        if way is not None and tokens is None and settings.xds_tokens:
            tokens = way.tokens()
        self._xds = XdsServer(
            self._hub,
            settings.xds,
            tls=way.certificate if way is not None and by_own_authority(settings) else tls,
            tokens=tokens,
            trust_domain=settings.trust_domain,
            accounts=accounts,
            believes=way.believes if way is not None else as_tls_did,
            limits=stream_limits(settings),
            more=way.services if way is not None else None,
            load_interval=settings.load_report_interval,
        )
        if self._identities is not None:
            self._identities.listen(lambda _: self._xds.recheck())
        self._sources: list[Source] = (
            [FilesSource([Path(folder) for folder in settings.files])] if settings.files else []
        )
        self._sources.extend(self._clusters.sources)
        self._consul = ConsulWay(settings, store)
        self._sources.extend(self._consul.sources)
        if self._clusters.sources:
            from fairlead.kubernetes.gateways import provision  # imports what is Kubernetes'

            provision(
                self._clusters, settings, self._token_way, self._engine, self._builder.submit, self._note_problems
            )
        names = [source.name for source in self._sources]
        self._store_copies = Copies(store, SOURCE, place=self._shared.place) if self._shared is not None else None
        shared = self._shared.store if self._shared is not None else store
        self._store_source = StoreSource(
            shared, self._engine, self._builder.submit, other_sources=names, copies=self._store_copies
        )
        self._rollouts = RolloutWay(
            settings,
            self._engine,
            local=store,
            shared=self._shared,
            clusters=self._clusters,
            submit=self._builder.submit,
            busy=lambda: self._builder.building,
        )
        self._rollouts.listen(self._xds.loads, self._xds.times)
        self._documents = DocumentWriter(store, rejections.COLLECTION)
        self._key_sets = KeySets(settings, store, self._engine, submit=self._builder.submit)
        self._rejections = Rejections(
            self._engine,
            self._hub,
            tables=RESOURCE_TABLES,
            views=VIEWS,
            submit=self._builder.submit,
            save=self._documents.save,
            clock=time.monotonic,
        )
        self._acknowledgements = Acknowledgements(
            self._engine, self._hub, store, submit=self._builder.submit, building=lambda: self._builder.building
        )
        self._known_audiences = DocumentWriter(store, audiences.COLLECTION)
        self._audiences = Audiences(
            self._builder.submit, linger=settings.audience_linger, save=self._known_audiences.save
        )
        self._known_registrations = DocumentWriter(store, registrations.COLLECTION)
        self._registrations = Registrations(
            self._engine, self._builder.submit, save=self._known_registrations.save, clock=time.monotonic
        )
        self._feed = Feed(epoch=f"{time.time_ns():x}")
        self._builds = Builds()
        self._problem_log = ProblemLog(time.monotonic)
        self._tasks = Tasks(self._task_failed)
        self._waiting_for = ["the first build"]
        self._ended = asyncio.Event()
        self._failure = ""
        self._fault_log = FaultLog()
        self._http = self._api(access)
        self._hub.on_audience = self._audiences.present
        self._hub.on_nack = self._refused
        self._hub.on_taken = self._rejections.took
        self._builder.listen(self._committed)

    def _way_for_tokens(self) -> TokenWay | None:
        address = tokens_address(self._settings)
        if address is None or not self._settings.kubernetes:
            return None
        # What it needs takes 9 MB, which a server without a cluster need not pay.
        from fairlead.identities.tokens import TokenWay

        return TokenWay(self._settings, address, self._clusters, self._store, self._identities, self._own_certificate)

    def _own_certificate(self) -> ServerCertificate:
        assert self._identity_way is not None
        return self._identity_way.door_certificate()

    def _way_by_identities(
        self, accounts: Callable[[Audience], frozenset[str]], tokens: Tokens | None
    ) -> IdentityWay | None:
        if self._identities is None or not self._settings.ca:
            return None
        from fairlead.identities.identity_way import IdentityWay

        reviewer = tokens.reviewer if tokens is not None else None
        return IdentityWay(self._settings, self._identities, self._engine, accounts=accounts, reviewer=reviewer)

    def _desk(self) -> AuthorityDesk | None:
        if self._identities is None:
            return None
        from fairlead.identities.authority_desk import AuthorityDesk

        return AuthorityDesk(self._identities)

    def _what_is_of_identities(self) -> Identities | None:
        if not self._settings.ca and not self._settings.federate:
            return None
        from fairlead.identities.authority import Identities  # as heavy as what judges tokens

        kv = self._shared.store.kv if self._shared is not None else None
        made = Identities(self._settings, self._store, submit=self._builder.submit, apis=self._clusters.apis, kv=kv)
        made.gate.ask_too(StreamWitness(self._engine, self._hub, made.left).seen)
        return made

    def _api(self, access: Access) -> HttpServer:
        world = World(
            self._builder,
            self._hub,
            resource_tables=_ENVOY_TABLES,
            on_its_way=self._store_source.on_its_way,
            source_problems=self._source_problems,
            waiting_for=lambda: self._waiting_for,
            load_reports=lambda: load_reports(self._xds.loads),
            metrics=lambda: page(),  # noqa: PLW0108 - the page needs the app, which needs the world
        )
        app = create_app(
            config=self._store_source,
            world=world,
            feed=self._feed,
            parse_yaml=_parse_yaml,
            access=access,
            registrations=self._consul.registrations or self._registrations,
            rollouts=self._rollouts,
            authority=self._desk(),
            version=own_version(),
        )
        page = metrics_page(
            Numbers(
                xds=self._hub.telemetry,
                api=app.state.traffic,
                builds=self._builds,
                waiting=lambda: len(self._lanes),
                ready=lambda: self._hub.ready,
                faults=lambda: len(self._engine.faults),
                problems=lambda: Counter(problem.source for problem in self._source_problems()),
                version=own_version(),
                registered=(self._consul.registrations or self._registrations).numbers,
                shared=self._shared.numbers if self._shared is not None else dict,
                consul=self._consul.numbers,
                key_sets=self._key_sets.numbers,
                rollouts=self._rollouts.numbers,
                authority=self._identities.numbers if self._identities is not None else dict,
                workload_api=self._workload_api.numbers if self._workload_api is not None else dict,
            )
        )
        return HttpServer(app, drain=self._settings.drain_time, tls=api_tls(self._settings, self._identity_way))

    # -- the life of the server ---------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Run until a signal, then stop in order.

        Raises:
            CommandError: an address cannot be had, or a part of the server failed.
        """
        async with AsyncExitStack() as stack:
            api_address = parse_address(self._settings.api, what="--api")
            api_socket = bind(api_address, flag="--api")
            stack.callback(api_socket.close)
            if self._identities is not None and self._identity_way is not None:
                await self._identities.open()
                await self._identity_way.open()
                stack.push_async_callback(self._identities.close)
            await self._start_xds()
            stack.push_async_callback(self._xds.stop)
            stack.callback(self._audiences.stop)
            kept = (self._documents, self._key_sets, self._known_audiences, self._known_registrations)
            for writer in (*kept, self._acknowledgements):
                stack.push_async_callback(writer.flush)
            stack.push_async_callback(self._rollouts.close)
            if self._token_way is not None:
                stack.push_async_callback(self._token_way.flush)
            stack.push_async_callback(self._clusters.close)
            if self._shared is not None and self._store_copies is not None:
                stack.push_async_callback(self._shared.close)
                stack.push_async_callback(self._store_copies.flush, 1_000_000)
                await self._shared.open(self._note_problems)
            stack.push_async_callback(self._consul.close)
            stack.push_async_callback(self._tasks.stop)
            http = self._tasks.start("api", self._http.run_on(api_socket))
            self._announce(Address(api_address.host, api_socket.getsockname()[1]))
            self._catch_signals()
            self._tasks.start("start", self._load_and_build())
            await self._ended.wait()
            self._feed.close()
            self._http.stop()
            await asyncio.gather(self._xds.drain(), asyncio.wait([http]))
        if self._failure:
            raise CommandError(self._failure)

    async def _start_xds(self) -> None:
        address = parse_address(self._settings.xds, what="--xds")
        bind(address, flag="--xds").close()  # gRPC does not say why it could not bind; this does
        if self._settings.xds_tokens:
            bind(parse_address(self._settings.xds_tokens, what="--xds-tokens"), flag="--xds-tokens").close()
        try:
            await self._xds.start()
        except OSError as error:
            raise cannot_listen(address, error, flag="--xds") from None

    def _announce(self, api: Address) -> None:
        xds = Address(parse_address(self._settings.xds, what="--xds").host, self._xds.port)
        sys.stderr.write(f"xds listening on {xds}\napi listening on {api}\n")
        if self._settings.xds_tokens:
            tokens = parse_address(self._settings.xds_tokens, what="--xds-tokens")
            sys.stderr.write(f"xds for tokens listening on {Address(tokens.host, self._xds.tokens_port)}\n")
        sys.stderr.flush()

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)

    def _signalled(self, number: int) -> None:
        if self._ended.is_set():
            os._exit(128 + number)  # the second signal: now
        _log.info("stopping: open streams have %g s to end; signal again to stop at once", self._settings.drain_time)
        self._ended.set()

    async def _load_and_build(self) -> None:
        """Read every source once, build, let proxies in, and from then on follow what changes."""
        self._waiting_for = ["store", *(source.name for source in self._sources), "the first build"]
        if self._token_way is not None:
            await self._token_way.load()
            self._token_way.start(self._tasks)
        superfluous = self._rejections.load(await self._store.documents(rejections.COLLECTION))
        self._documents.save(dict.fromkeys(superfluous))
        self._audiences.load(await self._store.documents(audiences.COLLECTION))
        self._registrations.load(await self._store.documents(registrations.COLLECTION))
        await self._acknowledgements.load()
        await self._rollouts.load()
        self._builder.submit((Change(MESH, "", mesh_row(self._settings)), Change(SYSTEM_TRUST, "", system_trust())))
        if self._identities is not None:
            await self._identities.load()
        telling = self._tasks.start("problems", self._tell_problems())
        await self._key_sets.load()
        await self._store_source.load()
        self._waiting_for.remove("store")
        following: list[tuple[Source, AsyncIterator[tuple[Change, ...]]]] = []
        for source in self._sources:
            batches = source.batches()
            self._builder.submit(await anext(batches))
            self._waiting_for.remove(source.name)
            following.append((source, batches))
        telling.cancel()
        self._note_problems()
        await self._builder.build_first()
        self._waiting_for = ["keys of token issuers"]
        await self._key_sets.start(self._tasks)
        if len(self._lanes):
            await self._builder.build_first()
        self._waiting_for = []
        self._hub.open()
        _log.info("ready: %d objects, %d services", len(self._engine.rows(OBJECTS)), len(self._engine.rows(SERVICES)))
        self._clusters.start(self._tasks)
        if self._identities is not None and self._identity_way is not None:
            self._identities.start(self._tasks)
            self._identity_way.start(self._tasks)
        self._tasks.start("builder", self._builder.run())
        self._tasks.start("store", self._store_source.follow())
        if self._shared is not None and self._store_copies is not None:
            self._shared.start(self._tasks)
            self._tasks.start("copies of the store", self._store_copies.run())
        for writer in (self._documents, self._known_audiences, self._known_registrations):
            self._tasks.start(writer.collection, writer.run())
        self._acknowledgements.start(self._tasks)
        self._tasks.start("registrations", self._registrations.sweep())
        self._tasks.start("rejections", self._rejections.watch())
        self._rollouts.start(self._tasks)
        self._tasks.start("memory", memory.trim_after_bursts(self._hub.telemetry.bytes_sent.total))
        for source, batches in following:
            self._tasks.start(source.name, self._follow(source, batches))

    async def _tell_problems(self) -> None:
        """Say what keeps the server from being ready, while it waits for a source that cannot be read."""
        while True:
            await asyncio.sleep(_TELL_SECONDS)
            self._note_problems()

    async def _follow(self, source: Source, batches: AsyncIterator[tuple[Change, ...]]) -> None:
        problems: object = None
        async for batch in batches:
            self._builder.submit(batch)
            # A thousand problems must not be looked through at each change of an endpoint.
            if source.problems is not problems:
                problems = source.problems
                self._note_problems()

    def _task_failed(self, name: str, error: BaseException) -> None:
        """A part that must not end has ended: stop in order, so that a supervisor starts us anew."""
        _log.critical("%s failed", name, exc_info=error)
        self._failure = f"{name} failed: {str(error) or type(error).__name__}"
        self._ended.set()

    # -- what happens meanwhile ---------------------------------------------------------------------------------

    def _committed(self, commit: Commit, batch: Batch, seconds: float) -> None:
        self._builds.note(seconds=seconds, rows=commit.computed)
        self._hub.publish(commit, self._engine, event_at=batch.since)
        self._feed.publish(sorted({*commit.of(OBJECTS), *commit.of(STATUSES)}))
        self._rejections.committed(commit)
        self._acknowledgements.committed(commit)
        self._key_sets.committed(commit)
        self._rollouts.rollouts.committed(commit)
        self._clusters.committed(commit)
        self._consul.committed(commit)
        if self._identities is not None and self._identity_way is not None:
            self._identities.committed(commit)
            self._identity_way.committed(commit)
        self._fault_log.note(self._engine.faults)

    def _refused(self, report: NackReport) -> None:
        _log.warning("%s", refusal_words(report))
        self._rejections.refused(report, building=self._builder.building)

    def _source_problems(self) -> Sequence[SourceProblem]:
        found = [SourceProblem(source.name, problem) for source in self._sources for problem in source.problems]
        found += [SourceProblem(name, problem) for name, problem in self._clusters.problems()]
        found += [SourceProblem(name, problem) for name, problem in self._key_sets.problems()]
        if self._identities is not None:
            found += [SourceProblem(name, problem) for name, problem in self._identities.problems()]
        for way in (self._token_way, self._workload_api):
            found += [SourceProblem(name, problem) for name, problem in way.problems()] if way is not None else []
        return [*self._store_source.problems(), *found]

    def _note_problems(self) -> None:
        self._problem_log.note(self._source_problems())


def _parse_yaml(text: str) -> Parsed:
    read = documents(text)
    return Parsed(
        tuple(document.value for document in read.documents), (read.problem,) if read.problem is not None else ()
    )


async def run(settings: Settings, *, tls: TlsOf, access: Access) -> None:
    """Open the store and serve until a signal.

    Raises:
        CommandError: the store or an address cannot be had, or a part of the server failed.
        UsageError: the xDS address may not be served as asked for.
    """
    memory.tune()
    allow_many_connections()
    path = store_path(settings)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        store = await SqliteStore.open(path)
    except StoreUnavailable as error:
        if in_consul(settings.store):
            raise CommandError(
                f"--store-local: {error.problem}. Fix: stop what holds it, or name another file"
            ) from None
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"--store: {path.parent}: {oserror_words(error)}. Fix: choose another place") from None
    try:
        await Server(settings, store, tls=tls, access=access).serve()
    except InsecureAddressError as error:
        raise UsageError(str(error)) from None
    finally:
        await store.close()
