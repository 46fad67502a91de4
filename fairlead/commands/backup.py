"""`fairlead backup`: copy the store, also while a server uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fairlead.commands.flags import command_app, examples
from fairlead.errors import CommandError
from fairlead.output import note

app = command_app()

StoreOption = Annotated[
    str, typer.Option("--store", metavar="sqlite:PATH", help="The store; default: as `serve` has it.")
]


@app.command(epilog=examples("fairlead backup fairlead-2026-11-23.db"))
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the copy goes; must not exist.")],
    store: StoreOption = "",
) -> None:
    """Copy the store to a file: consistent as of one moment, and complete with history."""
    from discovery.stores.sqlite_file import backup as copy
    from discovery.stores.store import StoreUnavailable
    from fairlead.settings import load, store_path

    path = store_path(load({"store": store or None}))
    try:
        copy(path, file)
    except StoreUnavailable as error:
        raise CommandError(str(error)) from None
    note(f"{path} copied to {file}")
