"""Conditions of CEL that are right, and others made of them that mostly are not.

A real Envoy is given all that validation lets through (`tests/envoy/test_policies_accepted.py`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

CONDITIONS = (
    "response.code >= 500",
    "request.path.startsWith('/a') && !(request.method == 'GET')",
    "request.headers['x-a'] == 'b' || 'x-a' in request.headers",
    "request.path.matches('^/a\\\\.b') || request.host.endsWith(\"b\")",
    "request.path.contains('a\\'b')",
    "size(request.path) > 3 && request.path.size() > 0x1F",
    "request.duration > duration('1s') && request.time > timestamp('2020-01-01T00:00:00Z')",
    "int(request.headers['x']) > 1 && double('1') > 1.5e3 && uint('1') == 1u",
    "response.code in [500, 503]",
    "has(request.referer) && has(metadata.a)",
    "connection.mtls",
    "true",
    "!true",
    "metadata.filter_metadata['a']['b'] == 'c' || filter_state['a'] == 'b'",
    "source.address.startsWith('10.') && destination.port == 80 && upstream.port == 1",
    "response.code >= 500 ? true : connection.mtls",
    "-1 < 0 && 5 % 2 == 1 && 1.5 * 2.0 == 3.0 && null == null",
    "((((((true))))))",
    "response.code>=500||true&&false",
    "xds.route_name == 'ü'",
    "request.path.matches('a{1,48}')",
)
_PART = re.compile(r"""[\w]+|"[^"]*"|'(?:[^'\\]|\\.)*'|[=!<>]=|\|\||&&|\S""")
_MORE = ("==", "&&", "!", "-", "(", ")", "[", "]", ".", ",", "?", ":", "+", "in", "1", "1.5", "'a'", "null", "request")


def mutated(seed: int, count: int) -> Iterator[str]:
    """So many conditions in which a few parts are others, too many or gone."""
    luck = random.Random(seed)
    parts = [_PART.findall(text) for text in CONDITIONS]
    pool = [part for each in parts for part in each] + list(_MORE)
    for _ in range(count):
        made = list(luck.choice(parts))
        for _ in range(luck.randint(1, 3)):
            at = luck.randrange(len(made) + 1)
            made[at : at + luck.randint(0, 2)] = [luck.choice(pool)] if luck.random() < 0.7 else []
        yield " ".join(made)
