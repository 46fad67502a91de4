"""`fairlead doctor`: what is missing on this machine, and the fix."""

from __future__ import annotations

import typer

from fairlead.client import DEFAULT_SERVER, ServerOption, TokenOption
from fairlead.commands.flags import command_app, examples
from fairlead.errors import FAILED
from fairlead.output import Format, OutputOption, emit, print_table

app = command_app()


@app.command(epilog=examples("fairlead doctor", "fairlead doctor -o json"))
def doctor(server: ServerOption = DEFAULT_SERVER, token: TokenOption = "", output: OutputOption = Format.table) -> None:
    """Check Python, the machine, Envoy, its schema, the store, the ports and the server. Exit code 1 if one failed."""
    import msgspec

    from fairlead.checks import run_checks
    from fairlead.settings import load

    findings = run_checks(load({}), server=server, token=token)
    emit(
        msgspec.to_builtins(findings),
        output=output,
        table=lambda: print_table(
            ("check", "result", "detail", "fix"),
            [(found.check, found.result, found.detail, found.fix) for found in findings],
            empty="",
        ),
    )
    if any(found.result == "failed" for found in findings):
        raise typer.Exit(FAILED)
