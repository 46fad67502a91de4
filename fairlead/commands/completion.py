"""`fairlead completion`: the script with which a shell completes our commands."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from fairlead.commands.flags import command_app, examples
from fairlead.output import say

app = command_app()


class Shell(StrEnum):
    """Shells that typer can write a completion script for."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


@app.command(
    epilog=examples(
        'eval "$(fairlead completion bash)"                     # in ~/.bashrc',
        "fairlead completion fish > ~/.config/fish/completions/fairlead.fish",
    )
)
def completion(shell: Annotated[Shell, typer.Argument(help="Which shell.")]) -> None:
    """Print the completion script of a shell."""
    from typer._completion_shared import get_completion_script

    from fairlead.cli import COMPLETE_VARIABLE

    say(get_completion_script(prog_name="fairlead", complete_var=COMPLETE_VARIABLE, shell=shell.value))
