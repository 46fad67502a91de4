"""`fairlead apply`: create or replace objects."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fairlead.client import DEFAULT_SERVER, Client, ServerOption, TokenOption
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
    from fairlead.client import problem_line
    from fairlead.commands.inputs import read_valid
    from fairlead.commands.names import object_path, title
    from mesh.kinds import KINDS, to_json

    client = Client(server, token=token)
    done: list[dict[str, Any]] = []
    for each in read_valid(filename):
        kind, metadata = KINDS[each.kind], each.metadata
        answer = client.request(
            "PUT",
            object_path(kind, metadata.namespace, metadata.name),
            query={"dryRun": "All"} if dry_run else None,
            body=to_json(each),
        )
        wire = answer.json()
        for warning in wire.get("warnings", ()):
            note(problem_line(warning))
        what = "created" if answer.status == 201 else "configured"
        done.append({"kind": each.kind, "namespace": metadata.namespace, "name": metadata.name, "result": what})
        if output is Format.table:
            say(f"{title(each.kind, metadata.namespace, metadata.name)} {what}{' (dry run)' if dry_run else ''}")
    if output is not Format.table:
        emit(done, output=output, table=lambda: None)
