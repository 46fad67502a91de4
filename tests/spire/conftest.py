"""Tests with a real SPIRE. Everything here carries the marker `spire`; `make test-spire` builds SPIRE and runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.spire import spire_programs

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker("spire")
            item.add_marker(pytest.mark.timeout(400))


@pytest.fixture(scope="session")
def spire_binaries() -> dict[str, Path]:
    """SPIRE's programs; skips where there are none."""
    found = spire_programs()
    if found is None:
        pytest.skip("there is no SPIRE on PATH, and none has been built: make test-spire does it (needs Go)")
    return found
