"""What an Envoy must have extensions for: the list says what all golden cases together use, and no more."""

from __future__ import annotations

import re

from tests.golden.test_golden import CASES, HERE
from xds.schema.extensions import NEEDED

# Parts of extensions' configuration that Envoy packs and lists nowhere: actions, and a route in one of them.
UNLISTED = frozenset(
    {
        "envoy.extensions.filters.common.matcher.action.v3.SkipFilter",
        "envoy.extensions.filters.http.composite.v3.ExecuteFilterAction",
        "envoy.extensions.filters.udp.udp_proxy.v3.Route",
        "envoy.extensions.matching.actions.transform_stat.v3.TransformStat",
    }
)
_TYPE = re.compile(r"type\.googleapis\.com/(envoy\.extensions\.[\w.]+)")


def test_the_extensions_that_are_needed_are_those_of_the_golden_cases() -> None:
    used = {name for case in CASES for name in _TYPE.findall((HERE / case / "out.yaml").read_text())}
    assert used - UNLISTED == NEEDED, "say in xds/schema/extensions.py what translation uses"
    assert used >= UNLISTED
