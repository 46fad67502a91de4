"""`fairlead delete`: delete objects from the server's store."""

from __future__ import annotations

from typing import Annotated

import typer

from fairlead.client import DEFAULT_SERVER, Client, ServerOption, TokenOption
from fairlead.commands.flags import command_app, examples
from fairlead.commands.names import KindArgument, NamespaceOption
from fairlead.output import note, say

app = command_app()


@app.command(epilog=examples("fairlead delete httproute reviews", "fairlead delete svc cart prices -n shop"))
def delete(
    kind: KindArgument,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="The objects' names.")],
    namespace: NamespaceOption = "default",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")] = False,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = "",
) -> None:
    """Delete objects. What other sources (files, Kubernetes) declare is theirs to delete, and the server says so."""
    from fairlead.client import problem_line
    from fairlead.commands.names import kind_of, object_path, title

    client = Client(server, token=token)
    found = kind_of(kind)
    scope = namespace if found.namespaced else ""
    for name in names:
        query = {"dryRun": "All"} if dry_run else None
        answer = client.request("DELETE", object_path(found, scope, name), query=query).json() or {}
        for warning in answer.get("warnings", ()):
            note(problem_line(warning))
        say(f"{title(found.name, scope, name)} deleted{' (dry run)' if dry_run else ''}")
