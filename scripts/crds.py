"""Writes `kind-cluster/crds/*.yaml`, a CustomResourceDefinition for each kind of `fairlead.dev`.

    python -m scripts.crds

The schemas follow from the model (`mesh/kinds/crd.py`), the words that `kubectl explain` shows from
`docs/reference/kinds.md`. `tests/unit/mesh/kinds/test_crd.py` fails when a file differs from what is made here.
"""

from __future__ import annotations

import sys

import yaml

from mesh.kinds.crd import definition, our_kinds
from tests.docs.pages import ROOT
from tests.docs.reference import REFERENCE, meanings

FOLDER = ROOT / "kind-cluster" / "crds"
_HEADER = "# Made by `make crds` from mesh/kinds and docs/reference/kinds.md.\n"


class _Plain(yaml.SafeDumper):
    """Without anchors: a shared part is written out wherever it stands."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        """Never refer."""
        return True


def made() -> dict[str, str]:
    """The files by name."""
    words = meanings((REFERENCE / "kinds.md").read_text())
    return {
        f"{kind.group}_{kind.plural}.yaml": _HEADER
        + yaml.dump(definition(kind, words), Dumper=_Plain, sort_keys=False, width=120, allow_unicode=True)
        for kind in our_kinds()
    }


def main() -> None:
    """Write the files, and remove those of kinds that are no more."""
    FOLDER.mkdir(exist_ok=True)
    files = made()
    for old in FOLDER.glob("*.yaml"):
        if old.name not in files:
            old.unlink()
            sys.stdout.write(f"{old.name}: removed\n")
    for name, text in files.items():
        path = FOLDER / name
        changed = not path.exists() or path.read_text() != text
        path.write_text(text)
        sys.stdout.write(f"{name}: {'written' if changed else 'unchanged'}\n")


if __name__ == "__main__":
    main()
