"""Tests with real Consul agents. Everything here carries the marker `consul`; `make test-consul` runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.processes import Children
from tests.support.consul import ConsulAgent, required_consul, start_agent
from tests.support.loops import nothing_left_open  # noqa: F401 - a fixture

_HERE = Path(__file__).parent
_LIMIT = 400
"""Seconds that a test may take, which the first one needs that fetches Consul over a slow line."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker("consul")
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(_LIMIT))


@pytest.fixture(scope="session")
def consul() -> Path:
    """The program; see `required_consul` for where there is none."""
    return required_consul()


@pytest.fixture
def agent(consul: Path, children: Children) -> ConsulAgent:
    """A dev agent of its own."""
    return start_agent(children, consul)
