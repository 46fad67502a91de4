"""`fairlead envoy`: run the Envoy we ship with under a bootstrap for this control plane."""

from __future__ import annotations

import os
import tempfile
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
from fairlead.errors import CommandError, UsageError
from fairlead.output import note, to_yaml

app = command_app()

_LOOKS_ONLY = frozenset({"--version", "--mode"})
"""With these Envoy binds no port."""


@app.command(
    epilog=examples(
        "fairlead envoy gateway --name edge",
        "fairlead envoy sidecar --name cart --port 8080 --admin-port 0",
        "fairlead envoy gateway --name edge -- --log-level debug --concurrency 1",
    )
)
@with_flags(PROXY_FLAGS)
def envoy(
    flags: Mapping[str, Any],
    kind: Annotated[ProxyKind, typer.Argument(help="gateway or sidecar.")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[-- ENVOY ARGUMENTS]")] = None,
) -> None:
    """Run Envoy. This process becomes Envoy: signals and the exit code are its own."""
    from fairlead.envoy_binary import envoy_command, find_envoy
    from fairlead.processes import is_taken

    if kind is ProxyKind.grpc:
        raise UsageError("a gRPC client needs no Envoy. Fix: fairlead bootstrap grpc --name NAME")
    instance = f"{os.uname().nodename}-{os.getpid()}"
    # Envoy reads these for as long as it runs, and this process becomes Envoy: nobody is left to remove them.
    folder = tempfile.mkdtemp(prefix="fairlead-envoy-") if flags["token_file"] else ""
    document = bootstrap_from(kind, flags, default_instance=instance, folder=folder)
    for name, described in token_files_from(flags).items():
        Path(folder, name).write_text(to_yaml(described))
    if missing := unreadable(flags):
        raise CommandError("; ".join(missing) + ". Fix: name files that this user can read")
    command = envoy_command(find_envoy(), document, arguments=arguments or ())
    admin = document["admin"]["address"]["socket_address"]
    port = admin["port_value"]
    where = f"{admin['address']}:{port}"
    if port and _LOOKS_ONLY.isdisjoint(arguments or ()) and is_taken(port):
        raise CommandError(f"{where} is in use by another process. Fix: --admin-port 0 takes a free port")
    if warning := in_plaintext(flags):
        note(warning)
    note(f"node {document['node']['id']}, xDS from {flags['xds']}, admin at {where}")
    os.execv(command[0], command)  # noqa: S606 - no shell is what we want
