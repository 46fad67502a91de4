"""NACKs: which resources a proxy refused, and how to find out when it does not say.

A NACK concerns a whole response; only its text may tell which resource is to blame. Envoy names clusters, listeners and
scopes; for other types a response of one resource is to blame by itself, and one of several is sent again in parts
until the culprits stand alone. What is blamed is never sent to that stream again in that version (S6).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from mesh.model import Audience
from xds.schema.type_urls import TYPE_CLUSTER, TYPE_LISTENER

# Of these Envoy takes the good resources of a response that it rejects for the bad ones
# (source/common/upstream/cds_api_helper.cc, source/common/listener_manager/lds_api.cc).
TAKES_THE_GOOD: Final = frozenset({TYPE_CLUSTER, TYPE_LISTENER})

# After so many parts the rest is blamed together: a proxy that refuses everything must not keep us busy.
PROBES: Final = 32

# What may stand beside a name in Envoy's text without being a part of it.
_EDGE: Final = r"[^\w.@~/-]"


@dataclass(frozen=True, slots=True)
class NackReport:
    """A proxy's refusal, as the rest of the program hears of it: `versions` maps the blamed names to versions."""

    audience: Audience
    node: str
    type_url: str
    versions: Mapping[str, str]
    detail: str


def blamed(names: Collection[str], detail: str) -> frozenset[str]:
    """The names that a NACK's text blames: the only one sent, or those that the text mentions; none if it does not."""
    if len(names) == 1:
        return frozenset(names)
    candidates = sorted((name for name in names if name and name in detail), key=len, reverse=True)
    found = set()
    for name in candidates:
        pattern = f"(?:^|{_EDGE}){re.escape(name)}(?:$|{_EDGE}|\\.(?:$|\\s))"
        if re.search(pattern, detail):
            found.add(name)
    return frozenset(found)


def halves(names: Collection[str]) -> tuple[frozenset[str], ...]:
    """Two parts to send one after the other; fewer where there are fewer names."""
    ordered = sorted(names)
    middle = (len(ordered) + 1) // 2
    return tuple(frozenset(part) for part in (ordered[:middle], ordered[middle:]) if part)
