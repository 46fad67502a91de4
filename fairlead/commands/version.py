"""`fairlead version`: what is installed here, and what runs there."""

from __future__ import annotations

from fairlead.commands.flags import command_app, examples
from fairlead.output import Format, OutputOption, emit, print_table

app = command_app()


@app.command(epilog=examples("fairlead version", "fairlead version -o json"))
def version(output: OutputOption = Format.table) -> None:
    """Print the versions of Fairlead, of Python, of Envoy and of what matters most between them."""
    import platform
    from importlib import metadata

    from fairlead.versions import envoy_version, own_version

    versions = {
        "fairlead": own_version(),
        "python": platform.python_version(),
        "envoy": envoy_version() or "none",
        "grpcio": metadata.version("grpcio"),
        "protobuf": metadata.version("protobuf"),
    }
    emit(versions, output=output, table=lambda: print_table(("what", "version"), versions.items(), empty=""))
