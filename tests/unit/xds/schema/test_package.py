"""The package `xds` beside another distribution's `xds.core` and its kin."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import xds


def test_the_protos_own_xds_package_can_be_installed_beside_ours(tmp_path):
    theirs = tmp_path / "xds" / "core" / "v3"
    theirs.mkdir(parents=True)
    for folder in (theirs, theirs.parent, theirs.parent.parent):
        (folder / "__init__.py").touch()
    (theirs / "authority_pb2.py").write_text("found = True\n")
    ours = Path(xds.__file__).parent.parent
    run = subprocess.run(
        [sys.executable, "-c", "import xds.schema.type_urls, xds.core.v3.authority_pb2 as a; print(a.found)"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ours), str(tmp_path)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.strip() == "True", run.stderr


def test_no_package_of_ours_takes_a_name_of_the_protos():
    ours = {path.name for path in Path(xds.__file__).parent.iterdir()}
    assert not ours & {"annotations", "core", "data", "service", "type"}
