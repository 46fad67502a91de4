"""`fairlead ca`: make an authority, and let authorities follow each other."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from fairlead.client import DEFAULT_SERVER, Client, ServerOption, TokenOption, segment
from fairlead.commands.flags import command_app, examples
from fairlead.errors import DIFFERS, CommandError, UsageError, oserror_words
from fairlead.output import Format, OutputOption, emit, note, print_table, say

app = command_app()

_ROOT = "/api/v1/authority"
_INTERVAL = 0.2
_COLUMNS = ("authority", "state", "root", "ends", "waits for")

AuthorityArgument = Annotated[
    str, typer.Argument(metavar="AUTHORITY", help="Its fingerprint, or the beginning of it.", show_default=False)
]
OverrideOption = Annotated[bool, typer.Option("--override", help="Do not wait. This can break traffic.")]
_PASSPHRASE = "A file with the passphrase in its first line, of mode 0600."  # noqa: S105 - about one


@app.callback(epilog=examples("fairlead ca init --dir ca --passphrase-file pass", "fairlead ca status"))
def ca() -> None:
    """Make an authority for workloads' certificates, look at it, and let authorities follow each other.

    An authority is prepared (proxies learn to trust it), active (it signs), old (what it signed lives on), perhaps
    tainted (what it signed is to be replaced), and revoked.
    """


@app.command(
    epilog=examples(
        "fairlead ca init --dir /var/lib/fairlead/ca --passphrase-file pass",
        "fairlead ca init --dir ca --passphrase-file pass --offline-root usb --root-passphrase-file usbpass",
    )
)
def init(
    folder: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Where the server's authority is kept; is made.")
    ],
    passphrase_file: Annotated[Path, typer.Option(metavar="FILE", help=_PASSPHRASE)],
    trust_domain: Annotated[str, typer.Option(metavar="NAME", help="Whose authority it is.")] = "cluster.local",
    offline_root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Put a root here, its key encrypted, and let an intermediate of it sign."),
    ] = None,
    root_passphrase_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The root's; another than the server's.")
    ] = None,
    key_type: Annotated[
        str, typer.Option(metavar="TYPE", help="ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072 or rsa-4096.")
    ] = "ecdsa-p256",
    root_days: Annotated[int, typer.Option(min=1, max=36_500, help="How long the root lives.")] = 3650,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long an intermediate lives.")] = 365,
) -> None:
    """Make the first authority, for `fairlead serve --ca folder:DIR`. Needs no server, and overwrites nothing."""
    from fairlead.identities import ca_files

    made = ca_files.init(
        folder,
        passphrase_file,
        trust_domain=trust_domain,
        key_type=key_type,
        root_days=root_days,
        days=days,
        offline=ca_files.Offline(offline_root, root_passphrase_file) if offline_root is not None else None,
    )
    say(f"authority {made.id}, root {made.root}, in {folder}")
    if offline_root is not None:
        note(f"{offline_root}: take root.key away from here, and keep it safe; the server does not need it")


@app.command(
    "join-token", epilog=examples("fairlead ca join-token --account reviews -n shop", "… --ttl 60 > /run/join-token")
)
def join_token(
    account: Annotated[str, typer.Option(metavar="NAME", help="The service account that the holder will be.")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Its namespace.")] = "default",
    ttl: Annotated[int, typer.Option(min=1, max=604_800, help="How many seconds it is good.")] = 600,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = "",
) -> None:
    """Print a token with which `fairlead agent` gets its first certificate; it is good once."""
    body = {"namespace": namespace, "serviceAccount": account, "ttlSeconds": ttl}
    made = Client(server, token=token).request("POST", f"{_ROOT}/join-tokens", body=body).json()
    say(made["token"])
    note(f"for {made['spiffeId']}, once, within {ttl} s")


@app.command(epilog=examples("fairlead ca sign --root usb --root-passphrase-file usbpass request.pem > chain.pem"))
def sign(
    request: Annotated[Path, typer.Argument(metavar="FILE", help="What `fairlead ca request` printed.")],
    root: Annotated[Path, typer.Option("--root", metavar="DIR", help="Where the offline root is.")],
    root_passphrase_file: Annotated[Path, typer.Option(metavar="FILE", help="The root's.")],
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long the intermediate lives.")] = 365,
) -> None:
    """Sign an intermediate with an offline root, and print its chain. Needs no server."""
    from fairlead.identities import ca_files

    say(ca_files.sign(root, root_passphrase_file, _read(request), days=days).decode().rstrip("\n"))


@app.command(epilog=examples("fairlead ca status", "fairlead ca status -o json"))
def status(server: ServerOption = DEFAULT_SERVER, token: TokenOption = "", output: OutputOption = Format.table) -> None:
    """Show the authorities, what a prepared one waits for, and what ends soon."""
    data = Client(server, token=token).get(_ROOT)
    emit(data, output=output, table=lambda: _table(data))


def _table(data: dict[str, Any]) -> None:
    rows = [_row(one, one["root"], data.get("gate", {})) for one in data["authorities"]]
    rows += [_row(one, "(JWT-SVIDs)", data.get("jwtGate", {})) for one in data.get("jwtAuthorities", ())]
    print_table(_COLUMNS, rows, empty="its keys are kept by somebody else")
    for line in data["warnings"]:
        note(line)


def _row(one: dict[str, Any], root: str, gate: dict[str, Any]) -> tuple[str, ...]:
    waits = gate.get("why", "") if one["state"] == "prepared" else ""
    if one["state"] in ("old", "tainted") and "livingUntil" in one:
        waits = f"what it signed, until {one['livingUntil']}"
    return one["id"], one["state"], root, one["endsAt"], waits or "-"


@app.command(epilog=examples("fairlead ca compare || echo 'some proxies do not trust what they should'"))
def compare(
    server: ServerOption = DEFAULT_SERVER, token: TokenOption = "", output: OutputOption = Format.table
) -> None:
    """Compare what connected proxies trust with what they should. Exit code 3 if one differs."""
    data = Client(server, token=token).items(f"{_ROOT}/proxies")
    rows = [(one["node"], one["trusts"]) for one in data["items"]]
    emit(data, output=output, table=lambda: print_table(("node", "trusts"), rows, empty="no proxy asks for roots"))
    if any(one["trusts"] != "the present bundle" for one in data["items"]):
        raise typer.Exit(DIFFERS)


@app.command(epilog=examples("fairlead ca bundle > first.json", "fairlead ca bundle --pem > root.pem"))
def bundle(
    pem: Annotated[bool, typer.Option("--pem", help="Only the roots, as certificates in PEM.")] = False,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = "",
) -> None:
    """Print the trust bundle, as SPIFFE's JWK Set: for another trust domain to begin with."""
    body = Client(server, token=token).request("GET", f"{_ROOT}/bundle").body
    if pem:
        import json
        import ssl
        from base64 import b64decode

        keys = json.loads(body)["keys"]
        roots = (b64decode(one) for key in keys for one in key.get("x5c", ()))
        say("".join(map(ssl.DER_cert_to_PEM_cert, roots)).rstrip("\n"))
        return
    say(body.decode())


@app.command(epilog=examples("fairlead ca federation", "fairlead ca federation --refresh elsewhere.org"))
def federation(
    refresh: Annotated[str, typer.Option(metavar="NAME", help="Fetch the bundle of this trust domain now.")] = "",
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = "",
    output: OutputOption = Format.table,
) -> None:
    """List the other trust domains that are believed in what is theirs."""
    client = Client(server, token=token)
    if refresh:
        client.request("POST", f"/api/v1/federation/{segment(refresh)}/refresh")
    data = client.items("/api/v1/federation")
    columns = ("trust domain", "bundle", "roots", "profile", "url", "problem")
    names = ("trustDomain", "sequence", "roots", "profile", "url", "problem")
    rows = [tuple(str(one[name]) or "-" for name in names) for one in data["items"]]
    emit(data, output=output, table=lambda: print_table(columns, rows, empty="no other trust domain is believed"))


@app.command(epilog=examples("fairlead ca request > request.pem"))
def request(server: ServerOption = DEFAULT_SERVER, token: TokenOption = "") -> None:
    """Print a request for an offline root to sign; its key stays in the server."""
    say(str(Client(server, token=token).request("POST", f"{_ROOT}/request").json()["request"]).rstrip("\n"))


@app.command(epilog=examples("fairlead ca prepare", "fairlead ca prepare --chain chain.pem"))
def prepare(
    chain: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What `fairlead ca sign` printed. Without: one that signs itself."),
    ] = None,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = "",
) -> None:
    """Spread a new authority: proxies learn to trust it, and it signs nothing yet."""
    body = {"chain": _read(chain).decode(errors="replace")} if chain is not None else {}
    made = Client(server, token=token).request("POST", f"{_ROOT}/prepare", body=body).json()
    say(f"authority {made['id']} is prepared")


@app.command(epilog=examples("fairlead ca activate 1f3c", "fairlead ca activate 1f3c --wait 600"))
def activate(
    name: AuthorityArgument,
    override: OverrideOption = False,
    wait: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Wait so long until it signs.")] = 0.0,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = "",
) -> None:
    """Let a prepared authority sign as soon as every connected proxy trusts it.

    Exit code 1 if `--wait` is over and it does not sign yet; it will all the same.
    """
    client = Client(server, token=token)
    made = _step(client, name, "activate", override=override)
    deadline = time.monotonic() + wait
    while made["state"] == "prepared" and time.monotonic() < deadline:
        time.sleep(_INTERVAL)
        made = _one(client, made["id"])
    if made["state"] == "prepared":
        why = client.get(_ROOT).get("gate", {}).get("why", "")
        words = f"authority {made['id']} does not sign yet: {why or 'in a moment'}"
        if wait:
            raise CommandError(words)
        note(words)
    else:
        say(f"authority {made['id']} is {made['state']}")


@app.command(epilog=examples("fairlead ca taint 9e41"))
def taint(name: AuthorityArgument, server: ServerOption = DEFAULT_SERVER, token: TokenOption = "") -> None:
    """Have everything replaced that an old authority signed: its key may be in wrong hands."""
    made = _step(Client(server, token=token), name, "taint")
    say(f"authority {made['id']} is {made['state']}")


@app.command(epilog=examples("fairlead ca revoke 9e41"))
def revoke(
    name: AuthorityArgument,
    override: OverrideOption = False,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = "",
) -> None:
    """Trust an authority no more, once nothing that it signed is valid; its keys are forgotten."""
    made = _step(Client(server, token=token), name, "revoke", override=override)
    say(f"authority {made['id']} is {made['state']}")


def _step(client: Client, name: str, step: str, *, override: bool = False) -> dict[str, Any]:
    query = {"override": "true"} if override else None
    made: dict[str, Any] = client.request("POST", f"{_ROOT}/{segment(name)}/{step}", query=query).json()
    return made


def _one(client: Client, name: str) -> dict[str, Any]:
    for one in client.get(_ROOT)["authorities"]:
        if one["id"] == name:
            return dict(one)
    raise CommandError(f"there is no authority {name} any more")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {oserror_words(error)}. Fix: name a file that can be read") from None
