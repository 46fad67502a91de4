"""What the settings of `fairlead serve` are set to: flags, environment, settings file and defaults, merged and checked.

A flag wins over the environment, the environment over the file, the file over the default. Nothing else reads the
environment. It declares no setting (`settings.py`).
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, get_origin

import msgspec

from fairlead.errors import UsageError
from fairlead.settings import PREFIX, Settings, describe
from fairlead.settings_file import read_settings_file

_OTHER_VARIABLES = frozenset({"FAIRLEAD_CONFIG", "FAIRLEAD_SERVER", "FAIRLEAD_SERVER_CA", "FAIRLEAD_TOKEN"})
# What Kubernetes puts into a pod's environment for a Service named `fairlead` or `fairlead-…`:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_OF_KUBERNETES = re.compile(
    r"FAIRLEAD(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


def load(
    flags: Mapping[str, Any], *, environ: Mapping[str, str] = os.environ, config_file: str | None = None
) -> Settings:
    """Merge flags (None: not given), environment, settings file and defaults.

    Raises:
        UsageError: an unknown key, a wrong type or an unreadable file; the message names the place and the fix.
    """
    path = config_file if config_file is not None else environ.get("FAIRLEAD_CONFIG") or None
    layers: list[tuple[str, dict[str, Any]]] = []
    if path:
        layers.append((path, read_settings_file(path, [info.name for info in describe()])))
    layers.append(("environment", _from_environment(environ)))
    layers.append(("flags", {name: value for name, value in flags.items() if value is not None}))
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, values in layers:
        merged.update(values)
        origins.update(dict.fromkeys(values, origin))
    try:
        return msgspec.convert(merged, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(_explain(error, merged=merged, origins=origins)) from None


def _explain(error: msgspec.ValidationError, *, merged: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    text, _, place = str(error).partition(" - at `$.")
    name = place.rstrip("`").partition("[")[0]
    for info in describe():
        if info.name == name:
            spelled = {"environment": info.variable, "flags": info.flag}.get(origins[name], f"{origins[name]}: {name}")
            if info.secret:
                return f"{spelled}: {text}. {info.description}"
            return f"{spelled} = {merged[name]!r}: {text}. {info.description}"
    return str(error)


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    infos = describe()
    _refuse_unknown(environ, {info.variable for info in infos} | _OTHER_VARIABLES)
    for info in infos:
        value = environ.get(info.variable)
        if value is None or value == "":
            continue
        if get_origin(info.type) is tuple:
            # Paths are separated as in PATH; the names of contexts may have colons in them.
            separator = os.pathsep if info.name == "files" else ","
            found[info.name] = [part for part in value.split(separator) if part]
        elif info.type is bool:
            found[info.name] = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(
                value.lower(), value
            )
        else:
            found[info.name] = value
    return found


def _refuse_unknown(environ: Mapping[str, str], known: AbstractSet[str]) -> None:
    begun = {name for name in environ if name.startswith(PREFIX)}
    for name in sorted(begun - known):
        if not _OF_KUBERNETES.fullmatch(name):
            ends = [one.removeprefix(PREFIX) for one in sorted(known)]
            near = difflib.get_close_matches(name.removeprefix(PREFIX), ends, n=1)
            fix = f"did you mean {PREFIX}{near[0]}?" if near else "unset it; `fairlead serve --help` lists the settings"
            raise UsageError(f"the environment has {name}, and there is no such setting. Fix: {fix}")
