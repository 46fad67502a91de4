"""`fairlead translate`: the Envoy resources that files become, without a server."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fairlead.commands.flags import command_app, examples
from fairlead.commands.inputs import FilesOption
from fairlead.errors import CommandError, UsageError
from fairlead.output import Format, OutputOption, emit, say, to_yaml

app = command_app()


@app.command(
    epilog=examples(
        "fairlead translate -f config/ --gateway default/edge",
        "fairlead translate -f config/ --gateway default/edge --sotw --type RDS",
        "fairlead translate -f config/ --sidecar default/cart --port 8080 --type CDS",
    )
)
def translate(
    filename: FilesOption,
    gateway: Annotated[str, typer.Option(metavar="NS/NAME", help="As the proxies of this Gateway get them.")] = "",
    sidecar: Annotated[str, typer.Option(metavar="NS/NAME", help="As the sidecars of this Service get them.")] = "",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the sidecar: where its service listens.")] = 8080,
    sotw: Annotated[
        bool, typer.Option("--sotw", help="Of the gateway: as state-of-the-world proxies get them.")
    ] = False,
    grpc: Annotated[str, typer.Option(metavar="NS", help="As the gRPC clients of this namespace get them.")] = "",
    only: Annotated[
        str, typer.Option("--type", metavar="TYPE", help="One of CDS, EDS, LDS, RDS, SRDS, ECDS, SDS.")
    ] = "",
    envoy_patches: Annotated[
        bool, typer.Option("--envoy-patches", help="As a server that applies EnvoyPatches would.")
    ] = False,
    route_code: Annotated[
        bool, typer.Option("--route-code", help="As a server that runs policies' Lua and Wasm would.")
    ] = False,
    output: OutputOption = Format.table,
) -> None:
    """Print the Envoy resources, type by type, that a proxy would be sent if these files were all there is.

    Private keys are not shown. Exit code 1 if the files make nothing for that proxy.
    """
    from fairlead.commands.inputs import read_valid
    from mesh.model import DECLARED, MESH, Declared, DeclaredKey, MeshSettings
    from mesh.tables import Change

    audience = _audience(gateway=gateway, sidecar=sidecar, port=port, grpc=grpc, sotw=sotw)
    changes = [
        Change(DECLARED, DeclaredKey(each.kind, each.metadata.namespace, each.metadata.name, "files"), Declared(each))
        for each in read_valid(filename)
    ]
    changes.append(Change(MESH, "", MeshSettings(envoy_patches=envoy_patches, route_code=route_code)))
    found = _shown(changes, audience)
    if not any(found.values()):
        who = f"{audience.kind} {audience.namespace}/{audience.name}".rstrip("/")
        raise CommandError(f"no {who} follows from these files. Fix: name one that they declare, of a class of ours")
    if only:
        if only.upper() not in found:
            raise UsageError(f"--type: there is no {only!r}. The types are {', '.join(found)}")
        found = {only.upper(): found[only.upper()]}
    emit(found, output=output, table=lambda: say(to_yaml(found).rstrip("\n")))


def _shown(changes: list[Any], audience: Any) -> dict[str, list[dict[str, Any]]]:
    """The resources by short type name, in the order of sending, without the secrets in them."""
    from mesh.model import AUDIENCES, Connected
    from mesh.tables import Change, Engine
    from xds.schema import to_dict
    from xds.schema.redact import redacted
    from xds.schema.type_urls import CODES
    from xds.translate.offline import resources, unpack_resource
    from xds.translate.tables import RESOURCE_TABLES, TABLES

    engine = Engine(TABLES)
    engine.commit([*changes, Change(AUDIENCES, audience, Connected())])
    return {
        code: [to_dict(redacted(unpack_resource(each))) for each in resources(engine, audience, type_url)]
        for type_url, code in CODES.items()
        if type_url in RESOURCE_TABLES
    }


def _audience(*, gateway: str, sidecar: str, port: int, grpc: str, sotw: bool) -> Any:
    from fairlead.bootstraps.bootstrap import EGRESS_PORT, INGRESS_PORT
    from mesh.model import Audience

    if sum(map(bool, (gateway, sidecar, grpc))) != 1:
        raise UsageError("say for whom: one of --gateway NS/NAME, --sidecar NS/NAME, --grpc NS")
    if sotw and not gateway:
        raise UsageError("--sotw: only gateways get something else over state-of-the-world. Fix: leave it out")
    if grpc:
        return Audience("grpc", grpc)
    flag, text = ("--gateway", gateway) if gateway else ("--sidecar", sidecar)
    namespace, slash, name = text.rpartition("/")
    if not name or "/" in namespace or (slash and not namespace):
        raise UsageError(f"{flag}: {text!r} is no NS/NAME. Fix: write it like default/edge")
    if gateway:
        return Audience("gateway", namespace or "default", name, sotw=sotw)
    return Audience("sidecar", namespace or "default", name, port, INGRESS_PORT, EGRESS_PORT)
