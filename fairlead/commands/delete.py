"""`fairlead delete`: delete objects from the server's store."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fairlead.client import DEFAULT_SERVER, Client, RefusedError, ServerOption, TokenOption
from fairlead.commands.flags import command_app, examples
from fairlead.commands.names import KindArgument, NamespaceOption
from fairlead.errors import FAILED
from fairlead.output import Format, OutputOption, emit, note, say

app = command_app()


@app.command(epilog=examples("fairlead delete httproute reviews", "fairlead delete svc cart prices -n shop"))
def delete(
    kind: KindArgument,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="The objects' names.")],
    namespace: NamespaceOption = "default",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")] = False,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = "",
    output: OutputOption = Format.table,
) -> None:
    """Delete objects. What other sources (files, Kubernetes) declare is theirs to delete, and the server says so.

    One that cannot be deleted does not keep the others; the exit code is then 1.
    """
    from fairlead.client import problem_line
    from fairlead.commands.names import kind_of, object_path, title

    client = Client(server, token=token)
    found = kind_of(kind)
    scope = namespace if found.namespaced else ""
    paths = {name: object_path(found, scope, name) for name in names}  # all of them are names, or nothing is done
    done: list[dict[str, Any]] = []
    for name, path in paths.items():
        row = {"kind": found.name, "namespace": scope, "name": name, "dryRun": dry_run}
        try:
            answer = client.request("DELETE", path, query={"dryRun": "All"} if dry_run else None).json() or {}
        except RefusedError as refused:
            note(f"{title(found.name, scope, name)} not deleted: {refused}")
            done.append({**row, "result": "failed", "error": str(refused)})
            continue
        for warning in answer.get("warnings", ()):
            note(problem_line(warning))
        done.append({**row, "result": "deleted"})
        if output is Format.table:
            say(f"{title(found.name, scope, name)} deleted{' (dry run)' if dry_run else ''}")
    emit(done, output=output, table=lambda: None)
    if any(each["result"] == "failed" for each in done):
        raise typer.Exit(FAILED)
