"""The HTTP filters of Envoy's connection managers: one order for all, a reason per row.

What comes first sees the request first and the response last. A filter that is not in the table cannot be used: naming
one raises when the module that names it is imported. Filters are always present where they can be of use and do nothing
until a route configures them, so that a route that begins to use one changes no listener and drains no connection.
Those that would do something by themselves have a place that routes fill in (`composite`); some share one, since each
name that sleeps costs every route configuration 90 bytes.

Doing nothing costs too: with all of them awake a request that Envoy answers itself took half as much CPU again. So
route configurations put to sleep what only their routes can want (`put_to_sleep`), and a route that wants a filter
wakes it by configuring it. Filters that protect without being asked never sleep.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from xds.schema import encode, pack
from xds.schema.types import FilterConfig


class Row(msgspec.Struct, frozen=True):
    """A filter's place in the order and why it is there; `sleeps` where no route configures it."""

    name: str
    reason: str
    sleeps: bool = False


ORDER: tuple[Row, ...] = (
    Row("fairlead.late_response_headers", "changes answers after everything else, those of all later filters too"),
    Row("envoy.filters.http.health_check", "answers probes, which know no host of a route and cost it nothing"),
    Row("fairlead.shared_scope", "sees before the next one whether the host belongs to another listener of the port"),
    Row(
        "fairlead.broad_scope",
        "chooses the scope, and so the route that every later filter reads its settings from",
        sleeps=True,
    ),
    Row("fairlead.alt_svc", "every answer tells of HTTP/3, those of later filters too"),
    Row(
        "envoy.filters.http.cors",
        "answers preflights, which carry no credentials, before anything asks for some",
        sleeps=True,
    ),
    Row("fairlead.identity_headers", "takes off what only the next one may write, whatever route a request takes"),
    Row("envoy.filters.http.jwt_authn", "refuses before anything is done or counted for a request; after preflights"),
    Row(
        "fairlead.entry",
        "refuses what another site's page sends, and counts a body before anybody holds the request back",
        sleeps=True,
    ),
    Row(
        "fairlead.ext_authz",
        "asks an authorizer only of requests whose tokens are good, and tells it whose they are",
        sleeps=True,
    ),
    Row(
        "fairlead.exit",
        "compresses last, whatever the others made of an answer, and slows down what is sent; nothing that is refused",
        sleeps=True,
    ),
    Row(
        "envoy.filters.http.custom_response",
        "sees the answers of all filters behind it, and may replace them",
        sleeps=True,
    ),
    Row(
        "fairlead.trouble",
        "refuses while what comes behind it fails, or breaks it on purpose, which counts as the backend's failure",
        sleeps=True,
    ),
    *(
        Row(
            f"fairlead.extension_{number}",
            "users' code sees what a client sent, once nobody refused it; in its order",
            sleeps=True,
        )
        for number in range(4)
    ),
    Row("envoy.filters.http.grpc_web", "turns gRPC-Web into gRPC before a filter looks at the body"),
    Row(
        "envoy.filters.http.grpc_json_transcoder",
        "turns JSON into gRPC, before what looks at whole bodies",
        sleeps=True,
    ),
    Row("envoy.filters.http.stateful_session", "chooses the endpoint, right before the router would", sleeps=True),
    Row(
        "fairlead.backend_rewrite",
        "the path is another's from here on, so that all others have seen the client's; says what to balance over",
        sleeps=True,
    ),
    Row("envoy.filters.http.router", "sends the request: must be the last"),
)

_PLACES = {row.name: place for place, row in enumerate(ORDER)}


def known(name: str) -> str:
    """The name itself if the table has it; raises `LookupError` otherwise."""
    if name not in _PLACES:
        raise LookupError(f"HTTP filter {name!r} has no place in the order: add a row with a reason to ORDER")
    return name


LATE_RESPONSE_HEADERS = known("fairlead.late_response_headers")
HEALTH_CHECK = known("envoy.filters.http.health_check")
SHARED_SCOPE = known("fairlead.shared_scope")
BROAD_SCOPE = known("fairlead.broad_scope")
ALT_SVC = known("fairlead.alt_svc")
CORS = known("envoy.filters.http.cors")
IDENTITY_HEADERS = known("fairlead.identity_headers")
JWT_AUTHN = known("envoy.filters.http.jwt_authn")
ENTRY = known("fairlead.entry")
EXT_AUTHZ = known("fairlead.ext_authz")
EXIT = known("fairlead.exit")
CUSTOM_RESPONSE = known("envoy.filters.http.custom_response")
TROUBLE = known("fairlead.trouble")
EXTENSIONS = tuple(known(f"fairlead.extension_{number}") for number in range(4))
GRPC_WEB = known("envoy.filters.http.grpc_web")
GRPC_JSON = known("envoy.filters.http.grpc_json_transcoder")
STATEFUL_SESSION = known("envoy.filters.http.stateful_session")
BACKEND_REWRITE = known("fairlead.backend_rewrite")
ROUTER = known("envoy.filters.http.router")


class Filter(msgspec.Struct, frozen=True):
    """A filter to install: its name from the table and its packed configuration.

    One that is `discovered` gets its configuration over ECDS; `config` then says where from.
    """

    name: str
    config: bytes
    discovered: bool = False


def http_filter(name: str, packed: Any) -> Filter:
    """A filter from its packed (`Any`) configuration."""
    return Filter(known(name), encode(packed))


def discovered_filter(name: str, source: Any) -> Filter:
    """A filter whose configuration is asked for under its own name, at an `ExtensionConfigSource`."""
    return Filter(known(name), encode(source), discovered=True)


def _asleep() -> tuple[tuple[str, bytes], ...]:
    config = FilterConfig()
    config.disabled = True
    return tuple(sorted((row.name, encode(pack(config))) for row in ORDER if row.sleeps))


_ASLEEP = _asleep()


def put_to_sleep(configuration: Any) -> None:
    """Have all filters sleep that no route of a `RouteConfiguration` configures.

    Which filters sleep Envoy decides when a request comes in, by the route that it has then. So this is for routes
    that a request has at once and keeps: not for those that are found later (`scoped_routes`), and not where users'
    code could lead requests to other routes.
    """
    for name, packed in _ASLEEP:
        configuration.typed_per_filter_config[name].MergeFromString(packed)


def add_filters(manager: Any, filters: Iterable[Filter]) -> None:
    """Install filters in a `HttpConnectionManager`, in the order of the table."""
    for each in sorted(filters, key=lambda one: _PLACES[one.name]):
        added = manager.http_filters.add()
        added.name = each.name
        if each.discovered:
            added.config_discovery.MergeFromString(each.config)
        else:
            added.typed_config.MergeFromString(each.config)
