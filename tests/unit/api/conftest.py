from __future__ import annotations

import pytest

from tests.unit.api.fakes import Fixture, fixture


@pytest.fixture
def api() -> Fixture:
    return fixture()
