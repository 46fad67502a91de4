"""`fairlead services`: the services of the mesh as discovery knows them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fairlead.client import DEFAULT_SERVER, Client, ServerOption, TokenOption
from fairlead.commands.flags import command_app, examples
from fairlead.output import Format, OutputOption, emit, print_table

app = command_app()

COLUMNS = ("namespace", "name", "ports", "endpoints", "sources")


@app.command(epilog=examples("fairlead services", "fairlead services -n shop", "fairlead services reviews -o json"))
def services(
    search: Annotated[str, typer.Argument(metavar="[TEXT]", help="Only those with this in their name.")] = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Only those of this namespace.")] = "",
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = "",
    output: OutputOption = Format.table,
) -> None:
    """List services with their endpoints (those that take requests, of all) and the sources that tell of them.

    `stale` says that a source is away and what was last known of it stands.
    """
    query = {name: value for name, value in (("namespace", namespace), ("search", search)) if value}
    data = Client(server, token=token).items("/api/v1/discovered/services", **query)
    emit(
        data,
        output=output,
        table=lambda: print_table(COLUMNS, map(service_row, data["items"]), empty="no service found"),
    )


def service_row(service: dict[str, Any]) -> tuple[str, ...]:
    """A service in one line."""
    ports = ", ".join(f"{port['port']}/{port['protocol']}" for port in service["ports"])
    return (
        service["namespace"],
        service["name"],
        ports,
        f"{service['healthy']}/{service['endpoints']}",
        ", ".join(service["sources"]) + (" (stale)" if service.get("stale") else ""),
    )
