"""`fairlead restore`: put a copy of the store back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fairlead.commands.backup import StoreOption, sqlite_path
from fairlead.commands.flags import command_app, examples
from fairlead.errors import CommandError
from fairlead.output import note

app = command_app()


@app.command(epilog=examples("fairlead restore fairlead-2026-11-23.db"))
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A copy that `fairlead backup` made.")],
    store: StoreOption = "",
) -> None:
    """Replace the store by a copy, while no server uses it. What was there is set aside, not deleted."""
    from discovery.stores.sqlite_file import restore as put_back
    from discovery.stores.store import StoreUnavailable
    from fairlead.settings_load import load

    path = sqlite_path(load({"store": store or None}), instead="consul snapshot restore")
    try:
        aside = put_back(file, path)
    except StoreUnavailable as error:
        raise CommandError(str(error)) from None
    note(f"{path} restored from {file}" + (f"; what was there is now {aside}" if aside is not None else ""))
