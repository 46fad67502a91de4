"""`fairlead proxies`: who is connected, and what each has acknowledged."""

from __future__ import annotations

from typing import Any

from fairlead.client import DEFAULT_SERVER, Client, ServerOption, TokenOption
from fairlead.commands.flags import command_app, examples
from fairlead.output import Format, OutputOption, emit, note, print_table

app = command_app()

TYPES = ("CDS", "EDS", "LDS", "RDS", "SRDS", "ECDS", "SDS")
COLUMNS = ("node", "protocol", "envoy", *TYPES)


@app.command(epilog=examples("fairlead proxies", "fairlead proxies -o json | jq '.items[].node'"))
def proxies(
    server: ServerOption = DEFAULT_SERVER, token: TokenOption = "", output: OutputOption = Format.table
) -> None:
    """List proxies: per type synced (with the number of resources), stale (sent, not acknowledged), rejected."""
    data = Client(server, token=token).items("/api/v1/proxies")
    rows = data["items"]

    def table() -> None:
        print_table(COLUMNS, map(proxy_row, rows), empty="no proxy is connected")
        for row in rows:
            for line in remarks(row):
                note(line)

    emit(data, output=output, table=table)


def proxy_row(proxy: dict[str, Any]) -> tuple[str, ...]:
    """A proxy in one line."""
    types = proxy["types"]
    return (
        proxy["node"],
        proxy.get("protocol", "delta"),
        proxy.get("version", ""),
        *(type_words(types[code]) if code in types else "-" for code in TYPES),
    )


def type_words(state: dict[str, Any]) -> str:
    """The state of one type: `synced 12` (resources), `stale`, `rejected`."""
    match state["status"]:
        case "SYNCED":
            left_out = state.get("leftOut", {})
            return f"synced {state.get('acked', 0)}" + (f", {len(left_out)} left out" if left_out else "")
        case "STALE":
            return "stale"
        case "ERROR":
            return "rejected"
        case _:
            return "-"


def remarks(proxy: dict[str, Any]) -> list[str]:
    """What a proxy refused, in its own words, and what it is too old for."""
    refused = [
        f"{proxy['node']} {code}: {state['rejected']}"
        for code, state in proxy["types"].items()
        if state.get("rejected")
    ]
    left_out = [
        f"{proxy['node']} {code}: {name} is too new for it: it does not know {', '.join(fields)}"
        for code, state in proxy["types"].items()
        for name, fields in state.get("leftOut", {}).items()
    ]
    return refused + left_out
