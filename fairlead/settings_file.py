"""Reads the file that `--config` names: TOML or YAML, flat `name: value` pairs. Judges names, not values."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from fairlead.errors import UsageError, oserror_words


def read_settings_file(path: str, known: Sequence[str]) -> dict[str, Any]:
    """What a file says, by name; `known` are the names that there are.

    Raises:
        UsageError: it cannot be read or parsed, is no mapping, or has an unknown name.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path}: cannot read the settings file: {oserror_words(error)}. Fix: name a file that can be read"
        ) from None
    try:
        values = tomllib.loads(raw.decode()) if path.endswith(".toml") else msgspec.yaml.decode(raw)
    except (tomllib.TOMLDecodeError, msgspec.DecodeError, UnicodeDecodeError) as error:
        form = "TOML (`name = value`)" if path.endswith(".toml") else "YAML (`name: value`)"
        raise UsageError(f"{path}: it cannot be parsed: {error}. Fix: its name says {form}; write it so") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{path}: it holds a {type(values).__name__}. Fix: write settings as `name: value` pairs")
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            fix = f"did you mean {near[0]!r}?" if near else f"the settings are {', '.join(known)}"
            raise UsageError(f"{path}: unknown setting {name!r}. Fix: {fix}")
    return values
