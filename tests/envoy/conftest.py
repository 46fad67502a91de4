"""What tests with a real Envoy share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fairlead.client import Client
from tests.support.fields import MARK, note, noted, said
from tests.support.routing import Server, backend_server


@pytest.fixture
def backend() -> Iterator[Server]:
    """A backend that does what a path says."""
    with backend_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _what_is_said_to_be_shown_is_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that is said to show a field must have set it, in what it translated or sent to a server."""
    shown = frozenset().union(*(said(*mark.args) for mark in request.node.iter_markers(MARK)))
    ask = Client.request

    def noting(self: Client, method: str, path: str, **rest: Any) -> Any:
        note(rest.get("body"))
        return ask(self, method, path, **rest)

    monkeypatch.setattr(Client, "request", noting)
    noted.clear()
    yield
    several = hasattr(request.node, "callspec")  # each of them shows a part
    assert not shown or (shown & noted if several else shown <= noted), f"it never set {sorted(shown - noted)}"
