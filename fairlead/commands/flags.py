"""What the command modules share in declaring themselves to typer.

Flags that several commands take, or that follow from a struct, are declared once and become a command's parameters
here, so that no signature repeats another.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import typer


def command_app() -> typer.Typer:
    """The typer application of one command: plain help (rich would double the time it takes), plain tracebacks."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def examples(*lines: str) -> str:
    """The end of a command's help: examples, one a line, as they are to be typed."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def is_given(context: typer.Context, name: str) -> bool:
    """Whether a parameter stands on the command line, and is not merely its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """A keyword parameter of a command; `annotation` carries the typer option."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def with_flags(
    parameters: Sequence[inspect.Parameter],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command more parameters; the function gets their values as its first argument, a mapping."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

        def command(**values: Any) -> None:
            flags: Mapping[str, Any] = {each.name: values.pop(each.name) for each in parameters}
            function(flags, **values)

        everything = [*(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own), *parameters]
        command.__signature__ = inspect.Signature(everything)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in everything}
        command.__doc__ = function.__doc__
        command.__name__ = function.__name__
        return command

    return decorate
