"""`fairlead diff`: what `apply` would change."""

from __future__ import annotations

import difflib
import http
from typing import Any

import typer

from fairlead.client import DEFAULT_SERVER, Client, RefusedError, ServerOption, TokenOption
from fairlead.commands.flags import command_app, examples
from fairlead.commands.inputs import FilesOption
from fairlead.errors import DIFFERS
from fairlead.output import say, to_yaml

app = command_app()

_SERVER_SIDE = ("status", "origin", "warnings")
_STAMPS = ("creationTimestamp", "generation", "resourceVersion", "uid")


@app.command(epilog=examples("fairlead diff -f config/ && echo the server has exactly this"))
def diff(filename: FilesOption, server: ServerOption = DEFAULT_SERVER, token: TokenOption = "") -> None:
    """Compare files with the server, object by object. Exit code 3 if something differs."""
    from fairlead.commands.inputs import read_valid
    from fairlead.commands.names import object_path, title
    from mesh.kinds import KINDS, to_json

    client = Client(server, token=token)
    differs = False
    for each in read_valid(filename):
        path = object_path(KINDS[each.kind], each.metadata.namespace, each.metadata.name)
        name = title(each.kind, each.metadata.namespace, each.metadata.name)
        lines = unified(comparable(present(client, path)), comparable(to_json(each)), name=name)
        differs = differs or bool(lines)
        for line in lines:
            say(line)
    if differs:
        raise typer.Exit(DIFFERS)


def present(client: Client, path: str) -> dict[str, Any]:
    """The object on the server; empty if it is not there."""
    try:
        return client.get(path)
    except RefusedError as refused:
        if refused.status == http.HTTPStatus.NOT_FOUND:
            return {}
        raise


def comparable(wire: dict[str, Any]) -> dict[str, Any]:
    """What a person wrote of an object, without what the server adds, keys sorted; empty for none."""
    if not wire:
        return {}
    kept = {key: value for key, value in wire.items() if key not in _SERVER_SIDE}
    kept["metadata"] = {key: value for key, value in kept["metadata"].items() if key not in _STAMPS}
    ordered: dict[str, Any] = _sorted(kept)
    return ordered


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list | tuple) else value


def unified(old: dict[str, Any], new: dict[str, Any], *, name: str) -> list[str]:
    """A unified diff of two objects as YAML; empty where they are equal."""
    before, after = (to_yaml(side).splitlines() if side else [] for side in (old, new))
    return list(difflib.unified_diff(before, after, f"{name} (server)", f"{name} (file)", lineterm=""))
