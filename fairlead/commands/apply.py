"""`fairlead apply`: create or replace objects."""

from __future__ import annotations

import http
from typing import Annotated, Any

import typer

from fairlead.client import DEFAULT_SERVER, Client, ServerOption, TokenOption, problem_line
from fairlead.commands.diff import present
from fairlead.commands.flags import command_app, examples
from fairlead.commands.inputs import FilesOption
from fairlead.output import Format, OutputOption, emit, note, say

app = command_app()


@app.command(
    epilog=examples(
        "fairlead apply -f config/",
        "fairlead apply -f route.yaml --dry-run",
        "kubectl get httproutes -o yaml | fairlead apply -f -",
    )
)
def apply(
    filename: FilesOption,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Let the server judge them, and change nothing.")] = False,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = "",
    output: OutputOption = Format.table,
) -> None:
    """Create or replace objects in the server's store. All files are checked first; with an error nothing is sent."""
    from fairlead.commands.inputs import read_valid
    from fairlead.commands.names import object_path, title
    from mesh.kinds import KINDS, to_json
    from mesh.validation import validate_object

    client = Client(server, token=token)
    done: list[dict[str, Any]] = []
    for each in read_valid(filename):
        kind, metadata = KINDS[each.kind], each.metadata
        path = object_path(kind, metadata.namespace, metadata.name)
        told = {(problem.code, problem.path) for problem in validate_object(each).problems}
        result = _put(client, path, to_json(each), told, dry_run=dry_run)
        name = {"kind": each.kind, "namespace": metadata.namespace, "name": metadata.name}
        done.append({**name, "result": result, "dryRun": dry_run})
        if output is Format.table:
            say(f"{title(each.kind, metadata.namespace, metadata.name)} {result}{' (dry run)' if dry_run else ''}")
    if output is not Format.table:
        emit(done, output=output, table=lambda: None)


def _put(client: Client, path: str, wire: dict[str, Any], told: set[tuple[str, str]], *, dry_run: bool) -> str:
    """Send one object: `created`, `configured` or `unchanged`. Warnings that its file was `told` of are not repeated.

    A real write of what is there already keeps the store's revision; a dry run is told what would change.
    """
    before = present(client, path)
    answer = client.request("PUT", path, query={"dryRun": "All"} if dry_run else None, body=wire)
    after = answer.json()
    for warning in after.get("warnings", ()):
        if (warning["code"], warning["path"]) not in told:
            note(problem_line(warning))
    if answer.status == http.HTTPStatus.CREATED:
        return "created"
    if dry_run:
        return "unchanged" if after.get("changes") == [] else "configured"
    return "unchanged" if _revision(before) == _revision(after) else "configured"


def _revision(wire: dict[str, Any]) -> str:
    return str(wire.get("metadata", {}).get("resourceVersion", ""))
