"""`fairlead explain`: where a request would go, and why not elsewhere."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from fairlead.client import DEFAULT_SERVER, Client, ServerOption, TokenOption
from fairlead.commands.flags import command_app, examples
from fairlead.errors import CommandError, UsageError
from fairlead.output import Format, OutputOption, emit, plural, say

app = command_app()

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2


@app.command(
    epilog=examples(
        "fairlead explain GET http://reviews.example.com/ -H 'x-canary: yes'",
        "fairlead explain POST https://shop.example.com/cart?x=1 --gateway default/edge -o json",
    )
)
def explain(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="GET, POST, …")],
    url: Annotated[str, typer.Argument(metavar="URL", help="The URL as the client would ask for it.")],
    header: Annotated[list[str] | None, typer.Option("--header", "-H", metavar="'NAME: VALUE'")] = None,
    gateway: Annotated[str, typer.Option(metavar="NS/NAME", help="Only this Gateway; default: all.")] = "",
    server: ServerOption = DEFAULT_SERVER,
    token: TokenOption = "",
    output: OutputOption = Format.table,
) -> None:
    """Tell which listener, virtual host, route and backend a request would meet, and why not the others.

    The answer comes from the rules alone; no request is sent.
    """
    for each in header or ():
        if ":" not in each:
            raise UsageError(f"-H: {each!r} is no header. Fix: write it as 'name: value'")
    if not _TOKEN.fullmatch(method):
        raise UsageError(f"METHOD: {method!r} is no method of HTTP. Fix: GET, POST or another single word")
    query = [("method", method.upper()), ("url", url), ("gateway", gateway)]
    query += [("header", each) for each in header or ()]
    data = Client(server, token=token).fetch("/api/v1/explain", query)

    def table() -> None:
        for number, answer in enumerate(data["gateways"]):
            if number:
                say("")
            for line in lines(answer):
                say(line)

    emit(data, output=output, table=table)
    if not data["gateways"]:
        raise CommandError(
            "the server has no Gateway of ours, so no request has anywhere to go."
            " Fix: apply one whose gatewayClassName is fairlead"
        )


def lines(answer: dict[str, Any]) -> list[str]:
    """One Gateway's answer for people."""
    found = [f"{title:<13} {value}" for title, value in _facts(answer) if value]
    for share in answer.get("backends", ()):
        problem = f"  ({share['problem']})" if share.get("problem") else ""
        endpoints = plural(share["endpoints"], "endpoint")
        found.append(f"{'backend':<13} {share['share']:.0%} {share['ref']}, {endpoints}{problem}")
        found += [f"{'':<13} then {successor}" for successor in share.get("successors", ())]
    others = answer.get("others", ())
    if others:
        found.append("not:")
        found.extend(f"  {other['what']}: {other['why']}" for other in others)
    return found


def _facts(answer: dict[str, Any]) -> list[tuple[str, str]]:
    route = answer.get("route")
    rule = answer.get("ruleName") or f"rules[{answer.get('rule', 0)}]"
    status = f" {answer['status']}" if answer.get("status") else ""
    return [
        ("gateway", answer.get("gateway", "")),
        ("listener", f"{answer['listener']} (port {answer['port']})" if answer.get("listener") else ""),
        ("virtual host", answer.get("virtualHost", "")),
        ("route", f"{route}, {rule}" if route else ""),
        ("match", answer.get("match", "")),
        ("filters", ", ".join(answer.get("filters", ()))),
        ("outcome", f"{answer['outcome']}{status}"),
        ("location", answer.get("location", "")),
        ("why", answer.get("why", "")),
    ]
