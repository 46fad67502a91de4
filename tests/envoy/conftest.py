"""What tests with a real Envoy share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.routing import Server, backend_server


@pytest.fixture
def backend() -> Iterator[Server]:
    """A backend that does what a path says."""
    with backend_server() as server:
        yield server
