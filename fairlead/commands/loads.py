"""`fairlead loads`: how much traffic the proxies report, per cluster."""

from __future__ import annotations

from typing import Any

from fairlead.client import DEFAULT_SERVER, Client, ServerOption, TokenOption
from fairlead.commands.flags import command_app, examples
from fairlead.output import Format, OutputOption, emit, print_table

app = command_app()

_COLUMNS = ("node", "cluster", "seconds", "issued", "succeeded", "failed", "dropped", "in progress")


@app.command(epilog=examples("fairlead loads", "fairlead loads -o json | jq '.items[] | select(.failed > 0)'"))
def loads(server: ServerOption = DEFAULT_SERVER, token: TokenOption = "", output: OutputOption = Format.table) -> None:
    """Show the last load report of every proxy (LRS): its requests to each cluster in the interval that it tells.

    Proxies report every ten seconds, and only clusters with requests that ended in them or are under way. The cluster
    of the control plane itself is there too: the stream of configuration is a request that never ends.
    """
    data = Client(server, token=token).items("/api/v1/load-reports")
    empty = "no proxy reports load yet; a report follows ten seconds after the first request"
    emit(data, output=output, table=lambda: print_table(_COLUMNS, map(_row, data["items"]), empty=empty))


def _row(load: dict[str, Any]) -> tuple[str, ...]:
    numbers = (load[name] for name in ("issued", "succeeded", "failed", "dropped", "inProgress"))
    return (load["node"], load["cluster"], f"{load['intervalSeconds']:.1f}", *map(str, numbers))
