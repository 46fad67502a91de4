"""The reference page of the settings, `docs/reference/settings.md`: `python -m fairlead.settings_page`.

Owns how a setting is shown there; what there is to show is `fairlead/settings.py`.
"""

from __future__ import annotations

import sys
from typing import Literal, get_args, get_origin

from fairlead.settings import SettingInfo, describe


def reference_page() -> str:
    """`docs/reference/settings.md`, whole."""
    rows = [
        f"| `{info.name}` | {_shown_flag(info)} | `{info.variable}` | {_shown_default(info)} | {_shown_meaning(info)} |"
        for info in describe()
    ]
    return "\n".join([_PAGE_HEAD, *rows, _PAGE_END])


_PAGE_HEAD = """\
# Settings of `fairlead serve`

Made from `fairlead/settings.py` by `make docs`; do not edit.

A flag wins over the environment, the environment over the file given with `--config` (or `FAIRLEAD_CONFIG`; TOML or
YAML, flat `name: value` pairs), the file over the default. An unknown name in the file, and an unknown
`FAIRLEAD_…` variable, is an error. Times are in seconds. Tokens have no flag: `ps` would show them to everybody.

| in the file | flag | environment | default | meaning |
|---|---|---|---|---|"""

_PAGE_END = """
The commands that talk to a server read two variables of their own: `FAIRLEAD_SERVER` (`--server`, default
`http://127.0.0.1:8080`) and `FAIRLEAD_TOKEN` (`--token`).
"""


def _shown_flag(info: SettingInfo) -> str:
    if not info.flag:
        return ""
    return f"`{info.flag}`, `--no{info.flag[1:]}`" if info.type is bool else f"`{info.flag}`"


def _shown_default(info: SettingInfo) -> str:
    return f"`{info.shown_default}`" if info.shown_default else ""


def _shown_meaning(info: SettingInfo) -> str:
    if get_origin(info.type) is Literal:
        return f"{info.description} One of {', '.join(f'`{value}`' for value in get_args(info.type) if value)}."
    return info.description


if __name__ == "__main__":
    sys.stdout.write(reference_page())
