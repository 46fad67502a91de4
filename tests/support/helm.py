"""Helm's own engine, built from its Go module (`tests/helm`): what a chart becomes, and what its schema refuses."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "kind-cluster" / "chart"


class ChartError(ValueError):
    """What Helm has against a chart or its values."""


@cache
def _renderer() -> Path:
    """The renderer, built where it is old; Go's cache makes that a matter of seconds after the first time."""
    home = Path(os.environ.get("KUBE_NODE_HOME", Path.home() / ".cache" / "kube-node"))
    program = home / "bin" / "helm-render"
    program.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["go", "build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o", str(program), "."],
        cwd=ROOT / "tests" / "helm",
        env={**os.environ, "CGO_ENABLED": "0"},
        check=True,
    )
    return program


def render(values: Mapping[str, Any] | None = None, *, namespace: str = "fairlead-system") -> str:
    """The chart's manifests as Helm writes them, in the order of the templates' names.

    Raises:
        ChartError: Helm refuses the values.
    """
    command = [str(_renderer()), str(CHART), namespace, json.dumps(values or {})]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ChartError(done.stderr)
    return done.stdout
