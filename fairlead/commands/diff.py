"""`fairlead diff`: what `apply` would change.

The values of Secrets are shown on neither side. Whether they differ is the server's to say: a PUT that is a dry run
answers with the paths that it would change. A hash of a key would tell as much to whoever gets hold of it later, and
could be tried against guesses without asking anybody.
"""

from __future__ import annotations

import difflib
import http
from collections.abc import Iterator
from typing import Any

import typer

from fairlead.client import DEFAULT_SERVER, Client, RefusedError, ServerOption, TokenOption
from fairlead.commands.flags import command_app, examples
from fairlead.commands.inputs import FilesOption
from fairlead.errors import DIFFERS, CommandError
from fairlead.output import Format, OutputOption, emit, say, to_yaml

app = command_app()

_STAMPS = ("creationTimestamp", "generation", "resourceVersion", "uid")


@app.command(
    epilog=examples(
        "fairlead diff -f config/ && echo the server has exactly this",
        "fairlead diff -f config/ -o json | jq -r '.[] | select(.result != \"same\").name'",
    )
)
def diff(
    filename: FilesOption,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = "",
    output: OutputOption = Format.table,
) -> None:
    """Compare files with the server, object by object. Exit code 3 if something differs.

    Values of Secrets are never shown; which of them differ is told to a token that may write.
    """
    from fairlead.commands.inputs import read_valid
    from fairlead.commands.names import object_path, title
    from mesh.kinds import KINDS, to_json

    client = Client(server, token=token)
    found: list[dict[str, Any]] = []
    for each in read_valid(filename):
        metadata = each.metadata
        path = object_path(KINDS[each.kind], metadata.namespace, metadata.name)
        name = title(each.kind, metadata.namespace, metadata.name)
        before = present(client, path)
        lines = difference(client, path, before, to_json(each), name=name)
        result = "same" if not lines else "differs" if before else "missing"
        key = {"kind": each.kind, "namespace": metadata.namespace, "name": metadata.name}
        found.append({**key, "result": result, "lines": lines})
        if output is Format.table:
            for line in lines:
                say(line)
    emit(found, output=output, table=lambda: None)
    if any(each["lines"] for each in found):
        raise typer.Exit(DIFFERS)


def difference(client: Client, path: str, before: dict[str, Any], wire: dict[str, Any], *, name: str) -> list[str]:
    """In what an object in a file differs from the one on the server, as lines; none where it does not."""
    from api.redaction import redacted

    old, new = comparable(before), comparable(redacted(wire))
    lines = unified(old, new, name=name)
    hidden = set(_hidden(old, new))
    if hidden:
        try:
            tried = client.request("PUT", path, query={"dryRun": "All"}, body=wire).json()
        except RefusedError as refused:
            raise CommandError(f"{name}: the server does not say whether its hidden values differ: {refused}") from None
        lines += [f"{name}: {at} differs (its values are not shown)" for at in tried["changes"] if at in hidden]
    return lines


def _hidden(old: dict[str, Any], new: dict[str, Any], path: str = "") -> Iterator[str]:
    """The paths whose values both sides hide."""
    from api.redaction import MARK
    from mesh.problems import child

    for key in old.keys() & new.keys():
        if isinstance(old[key], dict) and isinstance(new[key], dict):
            yield from _hidden(old[key], new[key], child(path, key))
        elif old[key] == new[key] == MARK:
            yield child(path, key)


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
    from mesh.validation import ADDED_ON_READS

    kept = {key: value for key, value in wire.items() if key not in ADDED_ON_READS}
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
