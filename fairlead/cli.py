"""The command line: which commands there are, how they are found, and how they end.

Only the list of commands lives here. A command's module is imported when it runs, so `fairlead --help` needs typer and
nothing else.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from fairlead.errors import FAILED, USAGE, CommandError, oserror_words

COMPLETE_VARIABLE = "_FAIRLEAD_COMPLETE"

SECTIONS: dict[str, dict[str, str]] = {
    "Run": {
        "serve": "Run the control plane.",
        "envoy": "Run an Envoy that takes its configuration from it.",
        "bootstrap": "Print the bootstrap of such an Envoy, or of a gRPC client.",
        "register": "Register an instance for as long as this command runs.",
        "demo": "Show what it does: real Envoy, real requests, one minute.",
        "doctor": "Check what this machine lacks, and say how to mend it.",
    },
    "Change what a server serves": {
        "apply": "Create or replace objects from YAML or JSON.",
        "delete": "Delete an object.",
        "get": "Show objects.",
        "diff": "Show what `apply` would change.",
        "rollout": "Look at rollouts, and hold, promote or abort them.",
        "wait": "Wait until every affected proxy has acknowledged an object.",
    },
    "Look at what it does": {
        "proxies": "List proxies and what each has acknowledged.",
        "proxy": "Show one proxy and the resources it holds.",
        "services": "List services, where they come from, and their endpoints.",
        "loads": "Show the traffic that proxies report, per cluster.",
        "problems": "Show what is wrong in the server's sources.",
        "explain": "Tell where a request would go, and why not elsewhere.",
    },
    "Identities": {
        "agent": "Keep a workload's identity beside its Envoy.",
        "ca": "Make an authority, look at it, and let another follow it.",
    },
    "Without a server": {
        "validate": "Check files.",
        "translate": "Print the Envoy resources that files become.",
    },
    "Care for it": {
        "backup": "Copy the store to a file, also while the server runs.",
        "restore": "Put such a copy back.",
        "version": "Print versions.",
        "completion": "Print the completion script of a shell.",
    },
}

EPILOG = """
Examples:

  fairlead serve --files ./config --insecure-xds         # read objects from ./config
  fairlead envoy gateway --name edge                     # in another terminal: an Envoy for Gateway default/edge
  fairlead apply -f route.yaml && fairlead wait httproute reviews
  fairlead explain GET http://reviews.example.com/ -H 'x-canary: yes'

Exit codes: 0 ok, 1 failed, 2 usage, 3 differs.  `fairlead COMMAND --help` tells more, with examples.
"""


class LazyGroup(TyperGroup):
    """The commands of `SECTIONS`, each imported from `fairlead.commands` when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """The commands' names in the order of the help."""
        return [name for section in SECTIONS.values() for name in section]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, its module imported now."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"fairlead.commands.{cmd_name}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """The help's list of commands, without importing any."""
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(list(commands.items()))

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """The examples as they are, not refilled into a paragraph."""
        formatter.write(EPILOG)


app = typer.Typer(
    name="fairlead",
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Fairlead: a control plane for real Envoy. Services and Gateway API rules in, xDS out.",
)


@app.callback()
def _root() -> None:
    """Nothing happens before a command."""


def main() -> NoReturn:
    """Run the command line and end the process with its exit code."""
    if COMPLETE_VARIABLE in os.environ:  # a shell asks what could come next
        from typer._completion_classes import completion_init

        completion_init()
    try:
        code = app(standalone_mode=False, prog_name="fairlead", complete_var=COMPLETE_VARIABLE)
    except CommandError as failure:
        _complain(str(failure))
        code = failure.exit_code
    except SystemExit as ended:  # what typer makes of a reader who left (`fairlead get … | head`) is a failure
        code = 0 if isinstance(ended.__context__, BrokenPipeError) else ended.code
    except KeyboardInterrupt:
        code = 128 + 2
    except typer.Abort:
        code = FAILED
    except Exception as error:  # noqa: BLE001 - judged there, and raised again if it is none of ours
        code = _usage_error(error)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its end
    sys.exit(code if isinstance(code, int) else 0)


def _usage_error(error: Exception) -> int:
    """What typer says about a command line it cannot read; any other exception is a defect and shows its trace."""
    if hasattr(error, "show") and hasattr(error, "exit_code"):
        if isinstance(message := getattr(error, "message", None), str):
            error.message = message.removeprefix("Value error, ")  # type: ignore[attr-defined] # a validator's stutter
        error.show()
        return USAGE if error.exit_code == USAGE else FAILED
    if isinstance(error, OSError):
        _complain(f"{error.filename or 'input/output'}: {oserror_words(error)}")
        return FAILED
    raise error


def _complain(message: str) -> None:
    sys.stderr.write(f"fairlead: {message}\n")
