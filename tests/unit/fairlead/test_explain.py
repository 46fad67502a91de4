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


def test_those_that_take_over_follow_their_backend_in_order() -> None:
    answer = {"outcome": "forward"}
    successors = ["Service default/spare:80", "Backend default/sorry"]
    backend = {"share": 1.0, "ref": "Service default/shop:80", "endpoints": 2, "successors": successors}
    assert lines({**answer, "backends": [backend]})[-3:] == [
        "backend       100% Service default/shop:80, 2 endpoints",
        "              then Service default/spare:80",
        "              then Backend default/sorry",
    ]
