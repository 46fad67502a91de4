"""`fairlead proxy show`: one proxy and the resources it holds."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fairlead.client import DEFAULT_SERVER, Client, ServerOption, TokenOption, segment
from fairlead.commands.flags import command_app, examples
from fairlead.errors import UsageError
from fairlead.output import Format, OutputOption, emit, note, print_table

app = command_app()


@app.callback()
def proxy() -> None:
    """Look at one proxy."""


@app.command(
    epilog=examples(
        "fairlead proxy show gateway~default~edge~host-1",
        "fairlead proxy show gateway~default~edge~host-1 --type CDS -o json",
    )
)
def show(
    node: Annotated[str, typer.Argument(metavar="NODE", help="The node id, as `fairlead proxies` lists it.")],
    only: Annotated[
        str, typer.Option("--type", metavar="TYPE", help="One of CDS, EDS, LDS, RDS, SRDS, ECDS, SDS.")
    ] = "",
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = "",
    output: OutputOption = Format.table,
) -> None:
    """Show the resources that a proxy should hold: name, version, and whether it has acknowledged that version."""
    from fairlead.commands.proxies import remarks

    data: dict[str, Any] = Client(server, token=token).get(f"/api/v1/proxies/{segment(node)}")
    if only:
        code = only.upper()
        if code not in data["resources"]:
            known = ", ".join(data["resources"]) or "none yet"
            raise UsageError(f"--type: {node} has no {only!r}; it asked for {known}")
        data["resources"] = {code: data["resources"][code]}

    def table() -> None:
        rows = [
            (code, row["name"], row.get("version", ""), acknowledged(row))
            for code, resources in data["resources"].items()
            for row in resources
        ]
        print_table(("type", "name", "version", "acknowledged"), rows, empty=f"{node} has asked for nothing yet")
        for line in remarks(data["proxy"]):
            note(line)

    emit(data, output=output, table=table)


def acknowledged(resource: dict[str, Any]) -> str:
    """`yes`, `no`, or `left out` for what the proxy is too old for."""
    return "yes" if resource.get("acked") else "left out" if resource.get("leftOut") else "no"
