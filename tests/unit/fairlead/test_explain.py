"""How an explanation is told to people; what it says is tested in `tests/unit/mesh/test_explain.py`."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.commands.explain import lines


@pytest.mark.parametrize(("number", "words"), [(0, "0 endpoints"), (1, "1 endpoint"), (2, "2 endpoints")])
def test_one_endpoint_is_no_plural(number: int, words: str) -> None:
    answer: dict[str, Any] = {"outcome": "forward"}
    answer["backends"] = [{"share": 1.0, "ref": "default/reviews:80", "endpoints": number}]
    assert lines(answer)[-1] == f"backend       100% default/reviews:80, {words}"
