"""`fairlead get policies`: those of all kinds, or, with `--effective`, what holds for their targets and who says so."""

from __future__ import annotations

from typing import Any

from fairlead.client import Client
from fairlead.commands.conditions import summary
from fairlead.commands.names import collection_path
from fairlead.errors import UsageError
from fairlead.output import Format, emit, print_table
from mesh.kinds import KINDS
from mesh.policies import POLICY_KINDS

_COLUMNS = ("kind", "namespace", "name", "status")
_EFFECTIVE_COLUMNS = ("target", "field", "value", "said by")


def show_policies(client: Client, namespace: str | None, name: str, *, effective: bool, output: Format) -> None:
    """Print policies, or what they come to; `namespace=None` means all, `name` one target, empty all.

    Raises:
        UsageError: a name without `--effective`, which could be a policy of any kind.
    """
    if effective:
        query = {key: value for key, value in (("namespace", namespace), ("name", name)) if value}
        items = client.items("/api/v1/effective-policies", **query)["items"]
        lines = [line for item in items for line in _lines(item)]
        emit({"items": items}, output=output, table=lambda: print_table(_EFFECTIVE_COLUMNS, lines, empty=_NOTHING))
        return
    if name:
        raise UsageError("NAME could be a policy of any kind. Fix: name its kind, or add --effective for a target")
    found = [
        {"kind": kind, **item}
        for kind in POLICY_KINDS
        for item in client.items(collection_path(KINDS[kind], namespace))["items"]
    ]
    emit({"items": found}, output=output, table=lambda: print_table(_COLUMNS, map(_row, found), empty="no policies"))


_NOTHING = "no policy reaches any such target"


def _row(wire: dict[str, Any]) -> tuple[str, ...]:
    metadata = wire["metadata"]
    return wire["kind"], metadata.get("namespace", ""), metadata["name"], summary(wire.get("status") or {})


def _lines(item: dict[str, Any]) -> list[tuple[str, ...]]:
    target = item["target"]
    section = f":{target['section']}" if "section" in target else ""
    at = f" {target['where']}" if "where" in target else ""
    where = f"{target['kind']} {target['namespace']}/{target['name']}{section}{at}"
    return [(where, path, _value(item["settings"], path), by) for path, by in sorted(item["origins"].items())]


def _value(settings: Any, path: str) -> str:
    for part in path.split("."):
        settings = settings.get(part) if isinstance(settings, dict) else None
    if isinstance(settings, dict | list):
        import msgspec

        return msgspec.json.encode(settings).decode()
    return str(settings).lower() if isinstance(settings, bool) else str(settings)
