"""`fairlead get`: show objects as the server has them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fairlead.client import DEFAULT_SERVER, Client, ServerOption, TokenOption
from fairlead.commands.conditions import summary
from fairlead.commands.flags import command_app, examples, is_given
from fairlead.commands.names import KindArgument, NamespaceOption
from fairlead.errors import UsageError
from fairlead.output import Format, OutputOption, emit, print_table

app = command_app()

POLICIES = "policies"
AUTHORIZATIONS = "authorizations"
_COLUMNS = ("namespace", "name", "source", "generation", "status")


@app.command(
    epilog=examples(
        "fairlead get httproutes -A",
        "fairlead get gateway edge -o yaml",
        "fairlead get svc -l team=shop",
        "fairlead get policies --effective reviews",
    )
)
def get(
    context: typer.Context,
    kind: KindArgument,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="One object; without, all of them.")] = "",
    namespace: NamespaceOption = "default",
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="In all namespaces.")] = False,
    selector: Annotated[str, typer.Option("--selector", "-l", help="Only those with these labels: a=b,c!=d.")] = "",
    effective: Annotated[
        bool,
        typer.Option("--effective", help="Of `policies`: what holds for each target, and which object says so."),
    ] = False,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = "",
    output: OutputOption = Format.table,
) -> None:
    """Show the objects of a kind, from whatever source, with their status; or one object.

    `policies` stands for all kinds of policies; with --effective NAME is the name of a target. `authorizations` are who
    may call which service, as Consul's intentions say; NAME is a service.
    """
    from fairlead.commands.names import collection_path, kind_of, object_path

    if everywhere and is_given(context, "namespace"):
        raise UsageError("-A means all namespaces and -n one of them. Fix: leave one of the two out")
    if name and (everywhere or selector):
        flag = "-A" if everywhere else "-l"
        raise UsageError(f"{flag} chooses among many objects and NAME is one. Fix: leave one of the two out")
    client = Client(server, token=token)
    if kind == POLICIES or effective:
        from fairlead.commands.policies import show_policies

        if kind != POLICIES:
            raise UsageError("--effective is of policies. Fix: fairlead get policies --effective")
        if selector:
            raise UsageError("-l does not go with policies of all kinds. Fix: name the kind, or leave it out")
        show_policies(client, None if everywhere else namespace, name, effective=effective, output=output)
        return
    if kind == AUTHORIZATIONS:
        from fairlead.commands.authorizations import show_authorizations

        if selector:
            raise UsageError("-l does not go with authorizations. Fix: leave it out")
        show_authorizations(client, None if everywhere else namespace, name, output=output)
        return
    found = kind_of(kind)
    if name:
        data = client.get(object_path(found, namespace, name))
        rows = [data]
    else:
        query = {"labelSelector": selector} if selector else {}
        data = client.items(collection_path(found, None if everywhere else namespace), **query)
        rows = data["items"]
    emit(
        data,
        output=output,
        table=lambda: print_table(_COLUMNS, map(_row, rows), empty=f"no {found.plural} found"),
    )


def _row(wire: dict[str, Any]) -> tuple[str, ...]:
    metadata = wire["metadata"]
    source = wire.get("origin", {})
    where = source.get("location") or source.get("source", "")
    return (
        metadata.get("namespace", ""),
        metadata["name"],
        f"{where} (stale)" if source.get("stale") else where,
        str(metadata.get("generation", "")),
        summary(wire.get("status") or {}),
    )
