"""Writes `kind-cluster/manifests/fairlead.yaml`: what the chart makes of its defaults, for people without Helm.

    python -m scripts.manifests          # needs Go: the manifests are rendered by Helm's own engine

`tests/kubernetes/test_chart.py` fails when the file differs from what is made here.
"""

from __future__ import annotations

import sys

from tests.support.helm import ROOT, render

FILE = ROOT / "kind-cluster" / "manifests" / "fairlead.yaml"
_HEADER = "# Made by `make manifests` from kind-cluster/chart.\n"
_OF_HELM = "app.kubernetes.io/managed-by:"


def made() -> str:
    """The file. The API's tokens are a Secret of the user's: random ones cannot be written down here."""
    text = render({"apiTokensSecret": "fairlead-api-tokens"})
    return _HEADER + "".join(line for line in text.splitlines(keepends=True) if _OF_HELM not in line)


if __name__ == "__main__":
    new = made()
    sys.stdout.write(f"{FILE.name}: {'unchanged' if FILE.exists() and FILE.read_text() == new else 'written'}\n")
    FILE.write_text(new)
