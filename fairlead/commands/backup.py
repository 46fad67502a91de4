"""`fairlead backup`: copy the store, also while a server uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fairlead.commands.flags import command_app, examples
from fairlead.errors import CommandError, UsageError
from fairlead.output import note
from fairlead.settings import Settings
from fairlead.stores.store_place import in_consul, store_path

app = command_app()


def sqlite_path(settings: Settings, *, instead: str) -> Path:
    """The file of the store. Raises UsageError where the store is none, with what does it `instead`."""
    if in_consul(settings.store):
        raise UsageError(f"--store: the store is in Consul's KV, not in a file. Fix: {instead}")
    return store_path(settings)


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
    from fairlead.settings_load import load

    path = sqlite_path(load({"store": store or None}), instead="consul snapshot save")
    try:
        copy(path, file)
    except StoreUnavailable as error:
        raise CommandError(str(error)) from None
    note(f"{path} copied to {file}")
