"""Which versions are in play: ours, as installed, and Envoy's, as it says itself."""

from __future__ import annotations

import subprocess
from importlib import metadata

from fairlead.envoy_binary import find_envoy
from fairlead.errors import CommandError


def own_version() -> str:
    """Our own version, as the installed package states it."""
    try:
        return metadata.version("fairlead")
    except metadata.PackageNotFoundError:
        return "0 (not installed)"


def envoy_version() -> str | None:
    """The version of the Envoy that `fairlead envoy` would run, None without one."""
    try:
        said = subprocess.run(
            [find_envoy(), "--version"], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except (CommandError, OSError, subprocess.SubprocessError):
        return None
    parts = said.split("/")  # envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL
    return parts[-4] if len(parts) >= 5 else said.strip()
