"""Tests with real Consul agents. Everything here carries the marker `consul`; `make test-consul` runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.processes import Children
from tests.support.consul import ConsulAgent, consul_binary, start_agent

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker("consul")


@pytest.fixture(scope="session")
def consul() -> Path:
    """The program; skips where there is none and none can be fetched."""
    binary = consul_binary()
    if binary is None:
        pytest.skip("there is no consul on PATH, and Debian's could not be fetched with apt")
    return binary


@pytest.fixture
def agent(consul: Path, children: Children) -> ConsulAgent:
    """A dev agent of its own."""
    return start_agent(children, consul)
