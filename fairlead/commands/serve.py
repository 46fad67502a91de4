"""`fairlead serve`: run the control plane."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import typer

from fairlead.commands.flags import command_app, examples, parameter, with_flags
from fairlead.errors import CommandError
from fairlead.settings import SettingInfo, describe
from fairlead.settings_load import load

app = command_app()


def _flag(info: SettingInfo) -> inspect.Parameter:
    """A setting as a flag; None where it is not given, so that environment and file are asked."""
    help_text = info.description.replace("`", "")
    if info.default not in ("", (), False):
        help_text += f" Default: {info.shown_default}."
    if get_origin(info.type) is Literal:
        help_text += f" One of {', '.join(filter(None, get_args(info.type)))}."
    kind: Any = info.type
    names = [info.flag]
    if get_origin(info.type) is tuple:
        kind = list[str]
    elif get_origin(info.type) is Literal:
        kind = str
    elif info.type is bool:
        names = [f"{info.flag}/--no{info.flag[1:]}"]
    option = typer.Option(*names, help=help_text, show_default=False, metavar=_metavar(info))
    return parameter(info.name, Annotated[kind | None, option], None)


def _metavar(info: SettingInfo) -> str | None:
    if info.type is bool:
        return None
    if info.name in _METAVARS:
        return _METAVARS[info.name]
    if info.type is int:
        return "MILLISECONDS"
    if info.type is not str and get_origin(info.type) is not tuple:
        return "CHOICE" if get_origin(info.type) is Literal else "NUMBER" if "per_second" in info.name else "SECONDS"
    if re.match(r"(PEM|JSON|A) file\b", info.description):
        return "FILE"
    return "NAME"


_METAVARS: Final = {
    "files": "DIR",
    "kubernetes": "CLUSTER",
    "kubernetes_lease": "NAMESPACE/NAME",
    "consul": "URL",
    "consul_polls": "NUMBER",
    "consul_reads": "MODE",
    "store": "STORE",
    "store_local": "FILE",
    "xds": "HOST:PORT",
    "xds_tokens": "HOST:PORT",
    "api": "HOST:PORT",
    "gateway_xds": "HOST:PORT",
    "bundle_endpoint": "HOST:PORT",
    "gateway_image": "IMAGE",
    "ca": "AUTHORITY",
    "federate": "DOMAIN",
    "xds_workload_api": "SOCKET",
    "jwks_private": "HOST",
}


@app.command(
    epilog=examples(
        "fairlead serve --files ./config --insecure-xds",
        "fairlead serve --kubernetes ~/.kube/config --insecure-xds",
        "fairlead serve --consul http://127.0.0.1:8500 --insecure-xds",
        "fairlead serve --xds 0.0.0.0:18000 --xds-cert c.pem --xds-key k.pem --xds-client-ca ca.pem",
        "FAIRLEAD_LOG_LEVEL=debug fairlead serve --config fairlead.toml",
    )
)
@with_flags([_flag(info) for info in describe() if info.flag])
def serve(
    flags: Mapping[str, Any],
    config: Annotated[str | None, typer.Option(metavar="FILE", help="A settings file, TOML or YAML.")] = None,
) -> None:
    """Run the control plane until SIGTERM or Ctrl-C.

    Every flag may also stand in the environment (--log-level: FAIRLEAD_LOG_LEVEL) or, as log_level, in the file. Tokens
    for the API stand in FAIRLEAD_API_TOKENS, or in a file of their own, and never on a command line.
    """
    import asyncio
    from pathlib import Path

    given = {name: value for name, value in flags.items() if value not in (None, [])}
    settings = load(given, config_file=config)

    from fairlead import logs
    from fairlead.security import api_security, xds_security
    from fairlead.server import run

    if settings.ca or settings.federate or settings.bundle_endpoint or settings.bundle_cert or settings.bundle_key:
        from fairlead.identities.authorities import check as check_authority

        check_authority(settings)
    tls = xds_security(settings)
    access = api_security(settings)
    for folder in settings.files:
        if not Path(folder).exists():
            raise CommandError(f"--files: there is no {folder}. Fix: name a folder that exists, or make it first")
    logs.configure(level=settings.log_level, form=settings.log_format)
    if settings.xds_workload_api:
        from fairlead.identities.workload_api import WorkloadApi

        assert isinstance(tls, WorkloadApi)
        tls.open()
    asyncio.run(run(settings, tls=tls, access=access))
