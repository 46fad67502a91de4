"""`fairlead bootstrap`: print what a proxy must be told before Fairlead can tell it the rest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fairlead.commands.flags import command_app, examples, with_flags
from fairlead.commands.proxy_flags import (
    PROXY_FLAGS,
    ProxyKind,
    bootstrap_from,
    in_plaintext,
    token_files_from,
    unreadable,
)
from fairlead.errors import CommandError, UsageError, oserror_words
from fairlead.output import Format, OutputOption, note, say, to_yaml

app = command_app()


@app.command(
    epilog=examples(
        "fairlead bootstrap gateway --name edge > edge.yaml && envoy -c edge.yaml",
        "fairlead bootstrap sidecar --name cart --port 8080",
        "fairlead bootstrap grpc --name client > grpc.json && GRPC_XDS_BOOTSTRAP=grpc.json ./client",
        "fairlead bootstrap gateway --name edge --xds cp.example:18000 --cert c.pem --key k.pem --ca ca.pem",
        "fairlead bootstrap gateway --name edge --xds cp.example:18000 --token-file /t/token --ca /t/ca.crt --into d",
    )
)
@with_flags(PROXY_FLAGS)
def bootstrap(
    flags: Mapping[str, Any],
    kind: Annotated[ProxyKind, typer.Argument(help="gateway, sidecar: for Envoy. grpc: for gRPC without a proxy.")],
    output: OutputOption = Format.table,
    into: Annotated[
        str, typer.Option(metavar="DIR", help="Write bootstrap.yaml here, and with a token the files it refers to.")
    ] = "",
) -> None:
    """Print the bootstrap of an Envoy (YAML, or -o json) or of a gRPC client (JSON)."""
    import json

    if flags["token_file"] and not into:
        raise UsageError("with --token-file there are three files. Fix: --into DIR, where the proxy shall find them")
    if into and kind is ProxyKind.grpc:
        raise UsageError("--into: a gRPC client is told by one file of JSON. Fix: > grpc.json")
    document = bootstrap_from(kind, flags, folder=str(Path(into).absolute()))
    if warning := in_plaintext(flags):
        note(warning)
    for each in unreadable(flags):  # no error: the proxy may run elsewhere
        note(f"{each}. It must be there where the proxy runs")
    if into:
        _write(Path(into), {"bootstrap.yaml": document, **token_files_from(flags)})
        return
    if output is Format.json or kind is ProxyKind.grpc:
        say(json.dumps(document, indent=2))
    else:
        say(to_yaml(document).rstrip("\n"))


def _write(folder: Path, documents: Mapping[str, Mapping[str, Any]]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, document in documents.items():
            (folder / name).write_text(to_yaml(document))
    except OSError as error:
        raise CommandError(f"--into: {folder}: {oserror_words(error)}. Fix: name a folder to write to") from None
    note(f"wrote {', '.join(str(folder / name) for name in documents)}")
