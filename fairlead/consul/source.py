"""Consul in the program: what the settings say of it, its source, and which services it is told are needed.

`target` and `plan` read the settings; `ConsulWay` is what `fairlead/server.py` sees. Nothing of Consul is imported
where it is not asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from discovery.source import Source
from discovery.stores.store import Store
from fairlead.consul.address import check_url
from fairlead.errors import UsageError
from fairlead.settings import Settings
from mesh.needs import Needs
from mesh.tables import Commit
from mesh.validations.regexes import fault

if TYPE_CHECKING:
    from discovery.consul.http import Target
    from discovery.consul.source import ConsulSource, Plan
    from fairlead.consul.registrations import ConsulRegistrations

_FILES = ("consul_token_file", "consul_ca", "consul_cert", "consul_key")
_MORE = (*_FILES, "consul_datacenters", "consul_exclude", "consul_partition", "consul_query_namespace")


def check(settings: Settings) -> None:
    """See that the settings about Consul can be. Raises UsageError."""
    if not settings.consul:
        for name in (*_MORE, "consul_optional", "consul_unhealthy"):
            if getattr(settings, name):
                raise UsageError(
                    f"{_flag(name)}: there is no Consul that it is for. Fix: name an agent with --consul URL, or leave"
                    f" {_flag(name)} out"
                )
        if settings.registrations == "consul":
            raise UsageError(
                "--registrations consul: there is no agent to register with. Fix: name one with --consul URL"
            )
        return
    check_url(settings.consul, "--consul")
    if bool(settings.consul_cert) != bool(settings.consul_key):
        given, lacking = ("cert", "key") if settings.consul_cert else ("key", "cert")
        raise UsageError(f"--consul-{given} goes with --consul-{lacking}. Fix: name both files, or neither")
    if not settings.consul.startswith("https:") and (settings.consul_ca or settings.consul_cert):
        flag = "--consul-ca" if settings.consul_ca else "--consul-cert"
        raise UsageError(f"{flag}: {settings.consul} is not asked over TLS. Fix: write https:// in --consul")
    for name in _FILES:
        path = getattr(settings, name)
        if path and not Path(path).is_file():
            raise UsageError(f"{_flag(name)}: there is no file {path}. Fix: name a file that exists")
    _check_choice(settings)
    _need_client("--consul")
    check_tls(target(settings), "--consul-ca, --consul-cert, --consul-key")


def _check_choice(settings: Settings) -> None:
    """See that what is to be read can be named so."""
    for name in settings.consul_datacenters:
        if settings.consul_datacenters.count(name) > 1 or not name or not name.isprintable():
            raise UsageError(f"--consul-datacenters: {name!r} is empty or stands twice. Fix: name each once")
    for expression in settings.consul_exclude:
        if why := fault(expression):
            raise UsageError(f"--consul-exclude: {expression!r}: {why}. Fix: write it in RE2's syntax")
    if "*" in (settings.consul_query_namespace, settings.consul_partition):
        flag = _flag("consul_query_namespace" if settings.consul_query_namespace == "*" else "consul_partition")
        raise UsageError(f"{flag}: Consul's catalog is asked for one at a time, and not for '*'. Fix: name one")


def check_tls(target: Target, flags: str) -> None:
    """See that the files for TLS are such. Raises UsageError."""
    from discovery.consul.http import UnreachableError, tls_context

    try:
        if target.url.startswith("https:"):
            tls_context(target)
    except UnreachableError as error:
        raise UsageError(f"{flags}: {error}. Fix: name files in PEM, the key without a password") from None


def target(settings: Settings) -> Target:
    """The agent, and how to speak to it."""
    from discovery.consul.http import Target

    return Target(
        url=settings.consul.rstrip("/"),
        token_file=settings.consul_token_file,
        ca_file=settings.consul_ca,
        certificate_file=settings.consul_cert,
        key_file=settings.consul_key,
        namespace=settings.consul_query_namespace,
        partition=settings.consul_partition,
    )


def plan(settings: Settings) -> Plan:
    """What is to be read."""
    from discovery.consul.source import Plan

    return Plan(
        datacenters=settings.consul_datacenters,
        namespace=settings.consul_namespace,
        unhealthy=settings.consul_unhealthy,
        exclude=settings.consul_exclude,
        polls=settings.consul_polls,
        reads=settings.consul_reads,
        max_stale=settings.consul_max_stale,
        optional=settings.consul_optional,
    )


class ConsulWay:
    """Consul, if the settings name an agent; else nothing, which costs nothing."""

    def __init__(self, settings: Settings, store: Store) -> None:
        """Raises UsageError for settings that cannot be."""
        check(settings)
        self._needs = Needs()
        self._source: ConsulSource | None = None
        self.registrations: ConsulRegistrations | None = None
        """Where instances register themselves, if that is in Consul."""
        if settings.consul:
            from discovery.consul.http import Consul
            from discovery.consul.intention_source import IntentionSource
            from discovery.consul.source import ConsulSource
            from discovery.copies import Copies

            agent = target(settings)
            self._agent = Consul(agent)
            self._intentions = IntentionSource(self._agent)
            self._source = ConsulSource(self._agent, plan(settings), copies=partial(Copies, store, place=agent.url))
            if settings.registrations == "consul":
                from fairlead.consul.registrations import ConsulRegistrations

                self.registrations = ConsulRegistrations(self._agent, namespace=settings.consul_namespace)

    @property
    def sources(self) -> Sequence[Source]:
        """Consul as a source of services, and of who may call them."""
        return [self._source, self._intentions] if self._source is not None else []

    def numbers(self) -> Mapping[str, Mapping[str, float]]:
        """For the metrics page."""
        return self._source.numbers() if self._source is not None else {}

    def committed(self, commit: Commit) -> None:
        """Hear of a commit of the engine."""
        if self._source is not None and self._needs.committed(commit):
            self._source.want(self._needs.names)

    async def close(self) -> None:
        """Keep what was not kept yet, and let go of the agent."""
        if self._source is not None:
            for copies in self._source.copies:
                await copies.flush(most=1_000_000)
            await self._agent.close()


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _need_client(flag: str) -> None:
    from importlib.util import find_spec

    if find_spec("aiohttp") is None:
        raise UsageError(f"{flag}: the client of Consul is not installed. Fix: pip install 'fairlead[consul]'")
