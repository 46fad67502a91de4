"""`fairlead get authorizations`: who may call which service, as Consul's intentions say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fairlead.client import Client
from fairlead.output import Format, emit, print_table

_COLUMNS = ("namespace", "service", "caller", "action", "precedence")


def show_authorizations(client: Client, namespace: str | None, service: str, *, output: Format) -> None:
    """Print them in the order in which they are asked; `namespace=None` means all, `service` empty all."""
    query = {key: value for key, value in (("namespace", namespace), ("service", service)) if value}
    items = client.items("/api/v1/authorizations", **query)["items"]
    lines = [line for item in items for line in _lines(item)]
    emit({"items": items}, output=output, table=lambda: print_table(_COLUMNS, lines, empty="no authorizations found"))


def _lines(item: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for rule in item["rules"]:
        tokens = " with a token" if "tokens" in rule else ""
        said = rule.get("action") or "; ".join(map(_permission, rule["permissions"]))
        yield item["namespace"], item["service"], _caller(rule["caller"]), said + tokens, str(rule["precedence"])
    if "unreadable" in item:
        yield item["namespace"], item["service"], "?", item["unreadable"], ""


def _caller(caller: dict[str, str]) -> str:
    name = "/".join(filter(None, (caller.get("namespace"), caller["name"])))
    more = [f"{key} {caller[key]}" for key in ("partition", "peer", "samenessGroup") if key in caller]
    return f"{name} ({', '.join(more)})" if more else name


def _permission(permission: dict[str, Any]) -> str:
    parts = [permission["action"], *permission.get("methods", ())]
    parts += [f"path {match} {path}" for match, path in permission.get("path", {}).items()]
    parts += [f"header {each['name']}" for each in permission.get("headers", ())]
    return " ".join(parts) + (" with a token" if "tokens" in permission else "")
