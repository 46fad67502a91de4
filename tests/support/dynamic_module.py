"""A dynamic module for Envoy, compiled where it is needed: `mark`, whose one filter writes its configuration."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SEARCH_PATH = "ENVOY_DYNAMIC_MODULES_SEARCH_PATH"
_SOURCE = Path(__file__).with_name("dynamic_module.c")


def built(folder: Path) -> Path:
    """The folder, which is made, with `libmark.so` in it. Skips the test where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("a dynamic module takes a C compiler (`cc`) to build")
    folder.mkdir(exist_ok=True)
    command = [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(folder / "libmark.so"), str(_SOURCE)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    return folder
