"""The stub that editors and mypy read."""

from __future__ import annotations

import ast
import subprocess
import sys

from xds.schema import stubs, types


def test_the_stub_is_python_and_declares_every_short_name_with_its_fields():
    tree = ast.parse(stubs.stub())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    annotated = {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)}
    assert types.NAMES.keys() - types.ENUMS <= classes.keys()
    assert annotated >= types.ENUMS
    cluster = {
        node.name if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else node.target.id
        for node in classes["Cluster"].body
    }
    assert {field.name for field in types.Cluster.DESCRIPTOR.fields} <= cluster
    assert {"EDS", "CommonLbConfig"} <= cluster


def test_mypy_finds_a_misspelt_field_with_it(tmp_path):
    # Under a name of its own, so that the stub under test is the one that is read.
    (tmp_path / "types_of_envoy.pyi").write_text(stubs.stub())
    user = tmp_path / "user.py"
    user.write_text(
        "from types_of_envoy import Cluster\n"
        "made = Cluster(name='x')\n"
        "made.connect_timeout.seconds = 5\n"
        "made.load_assignment.endpoints.add().lb_endpoints.add().endpoint.address.socket_address.port_value = 80\n"
        "made.conect_timeout.seconds = 5\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(user)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=100)
    assert run.returncode == 1
    assert [line.split(":")[1] for line in run.stdout.splitlines() if ": error:" in line] == ["5"]
