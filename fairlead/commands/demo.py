"""`fairlead demo`: the main job in a minute, on real Envoy, with every claim checked."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from fairlead.commands.flags import command_app, examples
from fairlead.errors import CommandError, UsageError
from fairlead.output import Format, OutputOption, emit

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from fairlead.demo.scene import Ports
    from fairlead.demo.story import Claim
    from fairlead.processes import Children

app = command_app()


@app.command(
    epilog=examples(
        "fairlead demo",
        "fairlead demo --keep",
        "fairlead demo --rollout",
        "fairlead demo -o json",
        "fairlead demo --consul consul",
        "fairlead demo --consul consul --kubeconfig ~/.kube/config",
    )
)
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running until Ctrl-C.")] = False,
    consul: Annotated[
        str, typer.Option(metavar="PROGRAM", help="Show discovery in Consul instead, with this `consul` program.")
    ] = "",
    kubeconfig: Annotated[
        str,
        typer.Option(metavar="FILE", help="With --consul: a service moves out of this real Kubernetes, not of a file."),
    ] = "",
    rollout: Annotated[
        bool, typer.Option("--rollout", help="Show rollouts instead: a good version promoted, a bad one taken back.")
    ] = False,
    output: OutputOption = Format.table,
) -> None:
    """Run Fairlead, a real Envoy and sample backends; show routing, splits and changes under traffic. Takes a minute.

    Exit code 1 if a claim turns out untrue. No process is left behind, however it ends.
    """
    import tempfile
    import time
    from contextlib import ExitStack
    from pathlib import Path

    from fairlead.demo.scene import choose_ports
    from fairlead.processes import Children

    if consul and rollout:
        raise UsageError("--consul and --rollout are two demos. Fix: one after the other")
    if kubeconfig and not consul:
        raise UsageError("--kubeconfig is for --consul. Fix: give both, or neither")
    for ending in (signal.SIGTERM, signal.SIGHUP):  # a terminal that closes says SIGHUP
        signal.signal(ending, _ended)
    tell = _teller(to_stdout=output is Format.table)
    started = time.monotonic()
    claims: list[Claim] = []
    with (
        tempfile.TemporaryDirectory(prefix="fairlead-demo-") as name,
        Children(Path(name)) as children,
        ExitStack() as stack,
    ):
        ports = choose_ports()
        cast = "sample backends, Consul, Fairlead, and Envoy" if consul else "sample backends, Fairlead, and Envoy"
        tell(f"Starting {cast} as the gateway …", "")
        chapters = (
            _consul_chapters(Path(name), children, ports, stack, consul=consul, kubeconfig=kubeconfig)
            if consul
            else _chapters(Path(name), children, ports, rollout=rollout)
        )
        if consul and not kubeconfig:
            tell("A service moves to Consul from a file. --kubeconfig FILE moves it out of a real Kubernetes.", "")
        for number, chapter in enumerate(chapters, 1):
            claim = chapter()
            claims.append(claim)
            tell(f"\n{number}. {claim.title}: {'yes' if claim.ok else 'NO'}", "bold green" if claim.ok else "bold red")
            for line in claim.lines:
                tell(f"   {line}", "")
        seconds = round(time.monotonic() - started, 1)
        ok = all(claim.ok for claim in claims)
        tell(f"\n{'Everything as claimed' if ok else 'NOT everything as claimed'}, in {seconds:g} s.", "bold")
        summary = {"ok": ok, "seconds": seconds, "claims": [_wire(claim) for claim in claims]}
        emit(summary, output=output, table=lambda: None)
        if keep:
            sys.stdout.flush()
            _stay(ports, children, tell)
    if not ok:
        raise CommandError("the demo's claims are not all true; what is not is marked NO above")


def _consul_chapters(
    folder: Path, children: Children, ports: Ports, stack: ExitStack, *, consul: str, kubeconfig: str
) -> Iterator[Callable[[], Claim]]:
    """Raise the curtain of the demo with Consul, and give its chapters; `stack` takes away what it made elsewhere."""
    import shutil

    from fairlead.demo import consul_story
    from fairlead.demo.consul_homes import FileHome, KubernetesHome
    from fairlead.demo.consul_scene import ConsulScene

    binary = shutil.which(consul)
    if binary is None:
        raise UsageError(f"--consul: there is no program {consul!r}. Fix: name one, or install Consul")
    home = KubernetesHome(kubeconfig) if kubeconfig else FileHome()
    stack.callback(home.close)
    stage = ConsulScene(folder, children, ports, binary=binary, home=home)
    stage.raise_curtain()
    yield from (partial(chapter, stage) for chapter in consul_story.CHAPTERS)


def _chapters(folder: Path, children: Children, ports: Ports, *, rollout: bool) -> Iterator[Callable[[], Claim]]:
    """Raise the curtain, and give the chapters of the story one after the other."""
    if rollout:
        from fairlead.demo import rollout_story

        rolling = rollout_story.RolloutScene(folder, children, ports)
        rolling.raise_curtain()
        yield from (partial(chapter, rolling) for chapter in rollout_story.CHAPTERS)
        return
    from fairlead.demo import story
    from fairlead.demo.scene import Scene

    scene = Scene(folder, children, ports)
    scene.raise_curtain()
    yield from (partial(chapter, scene) for chapter in story.CHAPTERS)


def _teller(*, to_stdout: bool) -> Callable[[str, str], None]:
    """Prints a line in a style (none where there is no terminal, or `NO_COLOR`), on stderr if stdout is for data."""
    from rich.console import Console

    console = Console(stderr=not to_stdout, highlight=False, markup=False, soft_wrap=True)

    def tell(line: str, style: str) -> None:
        console.print(line, style=style or None)

    return tell


def _wire(claim: Claim) -> dict[str, Any]:
    return {"name": claim.name, "title": claim.title, "ok": claim.ok, **claim.facts}


def _stay(ports: Ports, children: Children, tell: Callable[[str, str], None]) -> None:
    """Until a signal, or until something of the scene ends: without it the rest would only look alive."""
    tell(
        f"""
Still running, until Ctrl-C:
  the gateway   curl -H 'Host: reviews.example.com' http://127.0.0.1:{ports.gateway}/
  the page      http://127.0.0.1:{ports.api}/
  the API       http://127.0.0.1:{ports.api}/docs
  Envoy admin   http://127.0.0.1:{ports.admin}/
  the commands  export FAIRLEAD_SERVER=http://127.0.0.1:{ports.api}; fairlead proxies""",
        "",
    )
    children.wait_until(lambda: False, what="Ctrl-C", timeout=float("inf"), interval=0.5)


def _ended(number: int, _frame: Any) -> NoReturn:
    raise SystemExit(128 + number)
