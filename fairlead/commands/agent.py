"""`fairlead agent`: a workload's identity beside its Envoy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairlead.commands.flags import command_app, examples
from fairlead.errors import CommandError, UsageError, oserror_words
from fairlead.output import note

if TYPE_CHECKING:
    from fairlead.identities.agent import AgentSettings

app = command_app()


@app.command(
    epilog=examples(
        "fairlead agent --server xds:18000 --join xds:18001 --ca root.pem --token-file /run/join-token",
        "fairlead envoy sidecar --name reviews --port 8080 --agent /run/fairlead/agent.sock --xds xds:18000",
    )
)
def agent(
    server: Annotated[str, typer.Option(metavar="HOST:PORT", help="The control plane: its xDS address (--xds).")],
    join: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where it takes tokens (--xds-tokens); for the first certificate.")
    ],
    ca: Annotated[
        Path, typer.Option(metavar="FILE", help="Who signs the control plane's certificate, at first (PEM).")
    ],
    socket: Annotated[
        Path,
        typer.Option(metavar="PATH", help="Where Envoy asks for its identity: a Unix socket, of this user alone."),
    ] = Path("/run/fairlead/agent.sock"),
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A service account token or a join token; read anew for each attempt."),
    ] = None,
    server_name: Annotated[
        str, typer.Option(metavar="NAME", help="The name in the control plane's certificate; default: its host.")
    ] = "",
    lifetime: Annotated[
        int, typer.Option(min=0, metavar="SECONDS", help="How long certificates live; 0: as the authority has it.")
    ] = 0,
    allow_uid: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            metavar="UID",
            help="Another user that may ask at the socket, as Envoy's; may be repeated.",
        ),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Keep key and certificate here (mode 0600), on a memory file system, so that an agent that is started"
            " anew needs no new join token. Without: in this process alone.",
        ),
    ] = None,
    instance: Annotated[str, typer.Option(help="Tells agents of one identity apart; default: the host's name.")] = "",
) -> None:
    """Keep the identity of the workload beside this Envoy: key, certificate and roots, served over SDS.

    The key is made here and leaves this process for Envoy alone, over the socket. The certificate is renewed at half
    its life; while the control plane is away, what is there is served on. Ends on SIGTERM.
    """
    from fairlead.addresses import parse_address
    from fairlead.identities.agent import AgentSettings
    from fairlead.identities.kept_identity import KeptIdentity

    for flag, value in (("--server", server), ("--join", join)):
        if parse_address(value, what=flag).port == 0:
            raise UsageError(f"{flag}: port 0 cannot be reached. Fix: name the port of `fairlead serve`")
    try:
        roots = ca.read_bytes()
    except OSError as error:
        raise CommandError(f"--ca: cannot read {ca}: {oserror_words(error)}") from None
    settings = AgentSettings(
        server=server,
        join=join,
        ca=roots,
        ca_file=ca,
        socket=socket,
        token_file=token_file,
        server_name=server_name,
        lifetime=lifetime,
        instance=instance,
        users=frozenset(allow_uid or ()),
        kept=KeptIdentity(keep) if keep is not None else None,
    )
    _run(settings)


def _run(settings: AgentSettings) -> None:
    import asyncio
    import signal

    from fairlead import logs
    from fairlead.identities.agent import Agent

    logs.configure(level="info", form="json")

    async def work() -> None:
        this = asyncio.current_task()
        assert this is not None
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, this.cancel)
        try:
            await Agent(settings).run(lambda identity: note(f"{identity} at {settings.socket}"))
        except asyncio.CancelledError:
            note("agent: ended")

    asyncio.run(work())
