"""`fairlead register`: an instance of a service, for as long as the command runs, in a server or in Consul."""

from __future__ import annotations

import signal
from typing import Annotated, Any, Protocol

import typer

from fairlead.client import DEFAULT_SERVER, Client, RefusedError, ServerOption, TokenOption, Trust, segment
from fairlead.commands.flags import command_app, examples, is_given
from fairlead.commands.names import NamespaceOption
from fairlead.consul.registration import ConsulRegistrar, Instance
from fairlead.errors import CommandError, UsageError
from fairlead.output import note, say
from mesh.registered import RegistrationKey, check_key
from mesh.validations.service import can_be_connected_to

app = command_app()

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_PATIENCE = 5.0  # seconds for one answer at the most: a server that hangs must not cost several heartbeats


@app.command(
    epilog=examples(
        "fairlead register reviews --address 192.0.2.7 --port http=8080 --label version=v2",
        "fairlead register reviews --address 192.0.2.7 --port http=8080 --once --ttl 60",
        "fairlead register reviews --address 192.0.2.7 --port http=8080 --leave",
        "fairlead register reviews --address 192.0.2.7 --port http=8080 --consul http://192.0.2.1:8500",
    )
)
def register(
    context: typer.Context,
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
    consul: Annotated[
        str, typer.Option(metavar="URL", help="Register it at this Consul agent instead, with a check of that TTL.")
    ] = "",
    consul_token_file: Annotated[
        str, typer.Option(metavar="FILE", help="A file with the ACL token for Consul; read each time.")
    ] = "",
    consul_ca: Annotated[
        str, typer.Option(metavar="FILE", help="PEM file with the authorities of an https: agent.")
    ] = "",
    consul_cert: Annotated[
        str, typer.Option(metavar="FILE", help="PEM file with the certificate that such an agent asks for.")
    ] = "",
    consul_key: Annotated[str, typer.Option(metavar="FILE", help="PEM file with its key.")] = "",
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = "",
) -> None:
    """Register an instance, say three times per TTL that it is alive, and let it leave at SIGTERM or SIGINT.

    A server or agent that is away for a while is asked again and again; with --once it is an error.
    """
    if once and leave:
        raise UsageError("--once and --leave are two things to do. Fix: leave one of the two out")
    if not 1 <= ttl <= 3600:
        raise UsageError("--ttl: from 1 to 3600 seconds. Fix: write as many as may pass until it counts as gone")
    numbers = _pairs(ports, "--port")
    if not all(_is_port(number) for number in numbers.values()):
        raise UsageError("--port: no number from 1 to 65535. Fix: write it as in http=8080")
    own = name or f"{address.replace(':', '-').strip('-')}-{next(iter(numbers.values()))}"
    title = f"{namespace}/{service}/{own}"
    place: _Place
    trust = Trust(consul_ca, consul_cert, consul_key)
    if consul:
        spaced = namespace if is_given(context, "namespace") else ""
        instance = _in_consul(service, own, address, numbers, spaced, _pairs(labels, "--label"), weight, zone, ttl)
        _check_names(namespace, service, own)
        place = _Consul(consul, instance, consul_token_file, trust, title)
    elif consul_token_file or trust != Trust():
        flag = "--consul-token-file" if consul_token_file else "--consul-ca, --consul-cert and --consul-key"
        raise UsageError(f"{flag}: for Consul. Fix: name an agent with --consul, or leave it out")
    else:
        body: dict[str, Any] = {"address": address, "ports": {port: int(number) for port, number in numbers.items()}}
        body |= {"labels": _pairs(labels, "--label"), "weight": weight, "zone": zone, "ttlSeconds": ttl}
        path = "/".join(("/api/v1/registrations", segment(namespace), segment(service), segment(own)))
        place = _Server(Client(server, token=token, timeout=_PATIENCE), path, body, title)
    if leave:
        place.leave()
        say(f"{title} left")
    elif once:
        place.alive()
        place.tell()
    else:
        _stay(place, title=title, pause=ttl / 3)


class _Place(Protocol):
    """Where an instance is registered. All raise CommandError."""

    def alive(self) -> None:
        """Register it, or say that it is alive."""

    def leave(self) -> None:
        """Let it leave."""

    def tell(self) -> None:
        """Say how it is registered."""


class _Server:
    """In a server of Fairlead's."""

    def __init__(self, client: Client, path: str, body: dict[str, Any], title: str) -> None:
        self._client = client
        self._path = path
        self._body = body
        self._title = title
        self._view: dict[str, Any] = {}

    def alive(self) -> None:
        self._view = self._client.request("PUT", self._path, body=self._body).json()

    def leave(self) -> None:
        self._client.request("DELETE", self._path)

    def tell(self) -> None:
        say(f"{self._title} registered for {self._view['ttlSeconds']:g} s")
        if not self._view["known"]:
            note("nobody tells of that service with such a port: declare it with a Service, or nothing is sent there")


class _Consul:
    """In Consul."""

    def __init__(self, url: str, instance: Instance, token_file: str, trust: Trust, title: str) -> None:
        self._url = url
        self._title = title
        self._ttl = instance.ttl
        self._registrar = ConsulRegistrar(url, instance, token_file=token_file, trust=trust, timeout=_PATIENCE)

    def alive(self) -> None:
        self._registrar.alive()

    def leave(self) -> None:
        self._registrar.leave()

    def tell(self) -> None:
        say(f"{self._title} registered for {self._ttl:g} s in Consul at {self._url}")


def _check_names(namespace: str, service: str, own: str) -> None:
    """As a server does it for what is sent there: an agent takes any."""
    for problem in check_key(RegistrationKey(namespace, service, own)):
        flag = {"namespace": "--namespace: ", "id": "--id: "}.get(problem.path, "")
        raise UsageError(f"{flag}{problem.message}. Fix: {problem.fix}")


def _in_consul(
    service: str,
    own: str,
    address: str,
    ports: dict[str, str],
    namespace: str,
    labels: dict[str, str],
    weight: int,
    zone: str,
    ttl: float,
) -> Instance:
    if len(ports) != 1:
        raise UsageError("--port: an instance in Consul has one port. Fix: register one service for each port")
    if zone:
        raise UsageError("--zone: in Consul a zone is the node's. Fix: set `zone` in the agent's `node_meta`")
    if not can_be_connected_to(address):
        raise UsageError(f"--address: {address!r} is not the IP address of one instance. Fix: write one")
    port = int(next(iter(ports.values())))
    return Instance(
        service=service,
        id=f"{service}-{own}",
        address=address,
        port=port,
        namespace=namespace,
        labels=labels,
        weight=weight,
        ttl=ttl,
    )


def _stay(place: _Place, *, title: str, pause: float) -> None:
    """Heartbeats until a signal, and then goodbye. Signals are taken between calls only: none is cut in half."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    said = ""
    told = False
    while True:
        try:
            place.alive()
            if not told or said:
                place.tell()
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
        place.leave()
        say(f"{title} left")
    except CommandError as error:
        note(f"{title} could not say goodbye and leaves when its time is over: {error}")


def _note_once(words: str, said: str) -> str:
    if words != said:
        note(f"{words}; trying again")
    return words


def _is_port(number: str) -> bool:
    return number.isascii() and number.isdecimal() and len(number) <= 5 and 1 <= int(number) <= 65535


def _pairs(given: list[str], flag: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name or name in found:
            raise UsageError(f"{flag}: {each!r} is not NAME=VALUE, or that name stands twice. Fix: write each once")
        found[name] = value
    return found
