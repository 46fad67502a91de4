"""`fairlead rollout`: look at Rollouts, and take them in hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from fairlead.client import DEFAULT_SERVER, Client, ServerOption, TokenOption
from fairlead.commands.flags import command_app, examples
from fairlead.commands.names import NameArgument, NamespaceOption
from fairlead.output import Format, OutputOption, emit, print_table, say

app = command_app()

_COLUMNS = ("namespace", "name", "phase", "step", "canary", "requests", "failed", "stable failed", "what")


@app.callback(epilog=examples("fairlead rollout status", "fairlead rollout abort reviews"))
def rollout() -> None:
    """Show how far Rollouts are, and hold them, let them go on, promote them or take them back."""


@app.command(epilog=examples("fairlead rollout status", "fairlead rollout status reviews -n shop -o json"))
def status(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Only this one.", show_default=False)] = "",
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Only of this namespace; with NAME, `default` unless given.")
    ] = "",
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = "",
    output: OutputOption = Format.table,
) -> None:
    """Show how far Rollouts are: phase, step, the canary's share, and the requests that they were judged by."""
    from fairlead.commands.names import collection_path, kind_of, object_path

    client, kind = Client(server, token=token), kind_of("Rollout")
    if name:
        data: Any = client.get(object_path(kind, namespace or "default", name))
        found = [data]
    else:
        data = client.items(collection_path(kind, namespace or None))
        found = data["items"]
    emit(data, output=output, table=lambda: print_table(_COLUMNS, map(_row, found), empty="there are no Rollouts"))


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    metadata, told = item["metadata"], item.get("status", {})
    state = told.get("rollout")
    if state is None:
        whys = [each["message"] for each in told.get("conditions", ()) if each["status"] == "False"]
        return (metadata["namespace"], metadata["name"], "Pending", "", "", "", "", "", " ".join(whys))
    counts = state["canary"]["succeeded"] + state["canary"]["failed"]
    return (
        metadata["namespace"],
        metadata["name"],
        state["phase"],
        f"{state['step']}/{len(item['spec']['steps'])}",
        f"{state['weight']} %",
        str(counts),
        str(state["canary"]["failed"]),
        str(state["stable"]["failed"]),
        state["message"],
    )


def _ordered(command: str, name: str, namespace: str, server: str, token: str, output: Format) -> None:
    from fairlead.commands.names import kind_of, object_path, title

    path = object_path(kind_of("Rollout"), namespace, name)
    answer = Client(server, token=token).request("POST", f"{path}/{command}").json()
    state = answer.get("status", {}).get("rollout", {})

    def told() -> None:
        at = f"{state.get('phase', '')}, the canary has {state.get('weight', 0)} %"
        say(f"{title('rollout', namespace, name)}: {at}. {state.get('message', '')}")

    emit(answer, output=output, table=told)


def _taking(command: str) -> Callable[..., None]:
    def take(
        name: NameArgument,
        namespace: NamespaceOption = "default",
        server: ServerOption = DEFAULT_SERVER,
        token: TokenOption = "",
        output: OutputOption = Format.table,
    ) -> None:
        _ordered(command, name, namespace, server, token, output)

    return take


for _command, _help in {
    "pause": "Hold a Rollout where it is: it neither moves on nor goes back by itself.",
    "resume": "Let a paused Rollout begin its step again, or approve a step that waits for it.",
    "promote": "Give the canary all requests at once, whatever its checks say.",
    "abort": "Give the stable backend all requests at once. Another `spec.version` begins the Rollout again.",
}.items():
    app.command(_command, help=_help, epilog=examples(f"fairlead rollout {_command} reviews"))(_taking(_command))
