"""`fairlead validate`: check files without a server."""

from __future__ import annotations

import typer

from fairlead.commands.flags import command_app, examples
from fairlead.commands.inputs import FilesOption
from fairlead.errors import FAILED
from fairlead.output import Format, OutputOption, emit, note, plural, say

app = command_app()


@app.command(
    epilog=examples(
        "fairlead validate -f config/",
        "kubectl get httproutes -o yaml | fairlead validate -f -",
        "fairlead validate -f route.yaml -o json",
    )
)
def validate(filename: FilesOption, output: OutputOption = Format.table) -> None:
    """Check objects as the server would: every problem with file, line, path and fix.

    Exit code 1 if there is an error, or nothing to check.
    What depends on other objects (does the backend exist?) is told by their status, or by `fairlead translate`.
    """
    import msgspec

    from fairlead.commands.inputs import read

    found, problems = read(filename)

    def lines() -> None:
        for problem in problems:
            say(str(problem))
        errors = sum(problem.level == "error" for problem in problems)
        counts = (len(found), "object"), (errors, "error"), (len(problems) - errors, "warning")
        note(", ".join(plural(number, noun) for number, noun in counts))

    emit(msgspec.to_builtins(problems), output=output, table=lines)
    if any(problem.level == "error" for problem in problems):
        raise typer.Exit(FAILED)
