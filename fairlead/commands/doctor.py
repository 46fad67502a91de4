"""`fairlead doctor`: what is missing on this machine, and the fix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from fairlead.client import DEFAULT_SERVER, ServerOption, TokenOption
from fairlead.commands.flags import command_app, examples
from fairlead.errors import FAILED
from fairlead.output import Format, OutputOption, emit, print_table
from mesh.problems import sentence

if TYPE_CHECKING:
    from fairlead.checks import Finding

app = command_app()


@app.command(epilog=examples("fairlead doctor", "fairlead doctor -o json"))
def doctor(server: ServerOption = DEFAULT_SERVER, token: TokenOption = "", output: OutputOption = Format.table) -> None:
    """Check Python, the machine, Envoy, its extensions and schema, the store, the ports and the server.

    Exit code 1 if one failed.
    """
    import msgspec

    from fairlead.checks import run_checks
    from fairlead.settings_load import load

    findings = run_checks(load({}), server=server, token=token)
    emit(
        msgspec.to_builtins(findings),
        output=output,
        table=lambda: print_table(
            ("check", "result", "detail"),
            [(found.check, found.result, _words(found)) for found in findings],
            empty="",
        ),
    )
    if any(found.result == "failed" for found in findings):
        raise typer.Exit(FAILED)


def _words(found: Finding) -> str:
    return f"{sentence(found.detail)} Fix: {found.fix}" if found.fix else found.detail
