"""`fairlead wait`: until every affected proxy has acknowledged an object."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from fairlead.client import DEFAULT_SERVER, Client, ServerOption, TokenOption, segment
from fairlead.commands.flags import command_app, examples
from fairlead.commands.names import KindArgument, NameArgument, NamespaceOption
from fairlead.errors import CommandError
from fairlead.output import Format, OutputOption, emit, note, say

app = command_app()

_INTERVAL = 0.1


@app.command(
    epilog=examples(
        "fairlead apply -f route.yaml && fairlead wait httproute reviews",
        "fairlead wait gateway edge -n shop --timeout 5",
    )
)
def wait(
    kind: KindArgument,
    name: NameArgument,
    namespace: NamespaceOption = "default",
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait at most.")] = 60.0,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = "",
    output: OutputOption = Format.table,
) -> None:
    """Wait until every proxy that an object affects has acknowledged it.

    Exit code 1 if one refused it, or if it took too long.
    """
    from fairlead.commands.names import kind_of, object_path, title

    found = kind_of(kind)
    scope = namespace if found.namespaced else ""
    object_path(found, scope, name)  # refuses what can be no name
    client = Client(server, token=token)
    deadline = time.monotonic() + timeout
    while True:
        state = distribution(client, found.name, scope, name)
        if state["rejected"]:
            words = "\n".join(f"  {node}: {detail}" for node, detail in sorted(state["rejected"].items()))
            raise CommandError(f"{title(found.name, scope, name)} was refused:\n{words}")
        if state["done"]:
            break
        if time.monotonic() >= deadline:
            waiting = ", ".join(state["pending"]) or "the server itself"
            raise CommandError(f"{title(found.name, scope, name)}: after {timeout:g} s still waiting for {waiting}")
        time.sleep(_INTERVAL)
    emit(state, output=output, table=lambda: say(f"{state['acked']} of {state['affected']} proxies have it"))
    for limit in state.get("limits", ()):
        note(limit)
    if not state["affected"]:
        note("no connected proxy is affected by it")


def distribution(client: Client, kind: str, namespace: str, name: str) -> dict[str, Any]:
    """How far the object has come, as the server has it written; not done while it has not even been derived."""
    path = "/".join(segment(part) for part in (kind, namespace, name) if part)
    state: dict[str, Any] = client.get(f"/api/v1/distribution/{path}")
    return {"rejected": {}, "pending": [], "acked": 0, "affected": 0, "done": False} | state
