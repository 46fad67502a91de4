"""Tests with a real Vault. Everything here carries the marker `vault`; `make test-vault` builds Vault and runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.processes import Children
from tests.support.real_vault import RealVault, vault_program

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker("vault")


@pytest.fixture
def vault(children: Children) -> RealVault:
    """A Vault of its own; skips where there is none."""
    found = vault_program()
    if found is None:
        pytest.skip("no Vault has been built: make test-vault does it (needs Go)")
    return RealVault(children, found)
