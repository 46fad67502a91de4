from __future__ import annotations

from collections import Counter

import pytest

from fairlead.demo.story import judged


@pytest.mark.parametrize(
    ("v1", "weight", "ok"),
    [(900, 90, True), (853, 90, True), (852, 90, False), (948, 90, False), (579, 50, True), (580, 50, False)],
)
def test_a_split_is_judged_by_five_standard_deviations(v1: int, weight: int, ok: bool) -> None:
    assert judged(Counter(v1=v1, v2=1000 - v1), {"v1": weight, "v2": 100 - weight})[0] is ok


def test_an_answer_from_elsewhere_spoils_the_claim() -> None:
    assert not judged(Counter(v1=900, v2=99, none=1), {"v1": 90, "v2": 10})[0]
