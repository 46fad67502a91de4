"""`fairlead bootstrap`: print what a proxy must be told before Fairlead can tell it the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from fairlead.commands.flags import command_app, examples, with_flags
from fairlead.commands.proxy_flags import PROXY_FLAGS, ProxyKind, bootstrap_from, unreadable
from fairlead.output import Format, OutputOption, note, say, to_yaml

app = command_app()


@app.command(
    epilog=examples(
        "fairlead bootstrap gateway --name edge > edge.yaml && envoy -c edge.yaml",
        "fairlead bootstrap sidecar --name cart --port 8080",
        "fairlead bootstrap grpc --name client > grpc.json && GRPC_XDS_BOOTSTRAP=grpc.json ./client",
        "fairlead bootstrap gateway --name edge --xds cp.example:18000 --cert c.pem --key k.pem --ca ca.pem",
    )
)
@with_flags(PROXY_FLAGS)
def bootstrap(
    flags: Mapping[str, Any],
    kind: Annotated[ProxyKind, typer.Argument(help="gateway, sidecar: for Envoy. grpc: for gRPC without a proxy.")],
    output: OutputOption = Format.table,
) -> None:
    """Print the bootstrap of an Envoy (YAML, or -o json) or of a gRPC client (JSON)."""
    import json

    document = bootstrap_from(kind, flags)
    for each in unreadable(flags):  # no error: the proxy may run elsewhere
        note(f"{each}. It must be there where the proxy runs")
    if output is Format.json or kind is ProxyKind.grpc:
        say(json.dumps(document, indent=2))
    else:
        say(to_yaml(document).rstrip("\n"))
