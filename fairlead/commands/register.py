"""`fairlead register`: an instance of a service, for as long as the command runs."""

from __future__ import annotations

import signal
from typing import Annotated, Any

import typer

from fairlead.client import DEFAULT_SERVER, Client, RefusedError, ServerOption, TokenOption, segment
from fairlead.commands.flags import command_app, examples
from fairlead.commands.names import NamespaceOption
from fairlead.errors import CommandError, UsageError
from fairlead.output import note, say

app = command_app()

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_PATIENCE = 5.0  # seconds for one answer at the most: a server that hangs must not cost several heartbeats


@app.command(
    epilog=examples(
        "fairlead register reviews --address 192.0.2.7 --port http=8080 --label version=v2",
        "fairlead register reviews --address 192.0.2.7 --port http=8080 --once --ttl 60",
        "fairlead register reviews --address 192.0.2.7 --port http=8080 --leave",
    )
)
def register(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="The service that it is an instance of.")],
    address: Annotated[str, typer.Option("--address", metavar="IP", help="Where the instance is reached.")],
    ports: Annotated[
        list[str], typer.Option("--port", metavar="NAME=NUMBER", help="A port of the service and its number there.")
    ],
    namespace: NamespaceOption = "default",
    name: Annotated[
        str, typer.Option("--id", help="The instance's own name; without, its address and first port.")
    ] = "",
    labels: Annotated[list[str], typer.Option("--label", metavar="NAME=VALUE", help="For ServiceSubsets.")] = [],  # noqa: B006
    weight: Annotated[int, typer.Option(help="Its share within its locality.")] = 1,
    zone: Annotated[str, typer.Option(help="The zone it runs in.")] = "",
    ttl: Annotated[float, typer.Option(help="Seconds after which it leaves when nothing is heard of it.")] = 15.0,
    once: Annotated[bool, typer.Option("--once", help="Say once that it is alive, and end.")] = False,
    leave: Annotated[bool, typer.Option("--leave", help="Let it leave, and end.")] = False,
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = "",
) -> None:
    """Register an instance, say three times per TTL that it is alive, and let it leave at SIGTERM or SIGINT.

    A server that is away for a while is asked again and again; with --once it is an error.
    """
    if once and leave:
        raise UsageError("--once and --leave are two things to do. Fix: leave one of the two out")
    numbers = _pairs(ports, "--port")
    if any(not number.isdecimal() or len(number) > 5 for number in numbers.values()):
        raise UsageError("--port: write it as in http=8080")
    body: dict[str, Any] = {"address": address, "ports": {port: int(number) for port, number in numbers.items()}}
    body |= {"labels": _pairs(labels, "--label"), "weight": weight, "zone": zone, "ttlSeconds": ttl}
    own = name or f"{address.replace(':', '-').strip('-')}-{next(iter(numbers.values()))}"
    path = "/".join(("/api/v1/registrations", segment(namespace), segment(service), segment(own)))
    client = Client(server, token=token, timeout=_PATIENCE)
    title = f"{namespace}/{service}/{own}"
    if leave:
        client.request("DELETE", path)
        say(f"{title} left")
    elif once:
        _tell(client.request("PUT", path, body=body).json(), title)
    else:
        _stay(client, path, body, title=title, pause=ttl / 3)


def _stay(client: Client, path: str, body: dict[str, Any], *, title: str, pause: float) -> None:
    """Heartbeats until a signal, and then goodbye. Signals are taken between calls only: none is cut in half."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    said = ""
    told = False
    while True:
        try:
            answer = client.request("PUT", path, body=body)
            if not told or said:
                _tell(answer.json(), title)
            said, told = "", True
        except RefusedError as refused:
            if not told and refused.status < 500:
                raise  # it was never right; afterwards it may be a token that is being changed
            said = _note_once(str(refused), said)
        except CommandError as error:
            said = _note_once(str(error), said)
        if signal.sigtimedwait(_SIGNALS, pause) is not None:
            break
    try:
        client.request("DELETE", path)
        say(f"{title} left")
    except CommandError as error:
        note(f"{title} could not say goodbye and leaves when its time is over: {error}")


def _note_once(words: str, said: str) -> str:
    if words != said:
        note(f"{words}; trying again")
    return words


def _tell(view: dict[str, Any], title: str) -> None:
    say(f"{title} registered for {view['ttlSeconds']:g} s")
    if not view["known"]:
        note("nobody tells of that service with such a port: declare it with a Service, or nothing is sent there")


def _pairs(given: list[str], flag: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name or name in found:
            raise UsageError(f"{flag}: {each!r} is not NAME=VALUE, or that name stands twice")
        found[name] = value
    return found
