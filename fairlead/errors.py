"""How a command ends when it does not succeed: a message for a person, and the exit code a script relies on.

Exit codes: 0 ok, 1 failed, 2 usage (what was asked for makes no sense), 3 differs (`diff`, `wait`).
"""

from __future__ import annotations

OK = 0
FAILED = 1
USAGE = 2
DIFFERS = 3


class CommandError(Exception):
    """A command that could not do its work; the message says what, where and how to mend it."""

    exit_code = FAILED


class UsageError(CommandError):
    """What was asked for cannot be meant: a setting, a flag, a combination of them."""

    exit_code = USAGE


def oserror_words(error: OSError) -> str:
    """What the operating system said, without Python's numbering: `Permission denied`."""
    return error.strerror or str(error) or type(error).__name__
