"""`fairlead problems`: what is wrong in the sources that a server reads."""

from __future__ import annotations

from typing import Any

import typer

from fairlead.client import DEFAULT_SERVER, Client, ServerOption, TokenOption, problem_line
from fairlead.commands.flags import command_app, examples
from fairlead.errors import FAILED
from fairlead.output import Format, OutputOption, emit, note, say

app = command_app()


@app.command(epilog=examples("fairlead problems", "fairlead problems && echo nothing is wrong"))
def problems(
    server: ServerOption = DEFAULT_SERVER, token: TokenOption = "", output: OutputOption = Format.table
) -> None:
    """Show what a server cannot use of its sources: files that do not parse, objects that are wrong, unreadable rows.

    What was there before such a fault stays in force. Exit code 1 if there is an error.
    """
    data = Client(server, token=token).items("/api/v1/problems")
    items: list[dict[str, Any]] = data["items"]

    def table() -> None:
        for item in items:
            say(f"{item['source']}: {problem_line(item['problem'])}")
        if not items:
            note("nothing is wrong in the sources")

    emit(data, output=output, table=table)
    if any(item["problem"]["level"] == "error" for item in items):
        raise typer.Exit(FAILED)
