"""What became of objects where Envoy's resources were made: rows that come back from there, for statuses.

The model knows no Envoy, and some of what users write is only understood with Envoy's own types: whether an EnvoyPatch
fits, whether a descriptor has a service. It is found out where resources are made (`xds/translate/result_tables.py`).
Nothing but statuses may be made from these rows, or there would be a circle.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from mesh.model import ObjectKey
from mesh.tables import Input, Look

Results = tuple[tuple[ObjectKey, str], ...]
"""What became of objects in one resource: empty, or why it was made without them."""


class ResultKey(NamedTuple):
    """An object, and a resource that it has a part in, as people call it."""

    object: ObjectKey
    resource: str


class Result(msgspec.Struct, frozen=True):
    """What became of it there: empty, or why the resource was made without it."""

    problem: str = ""


RESULTS: Input[ResultKey, Result] = Input("results")

RESULTS_BY_OBJECT = RESULTS.index("object", lambda key, _: (key.object,))


def problems_of(look: Look, key: ObjectKey) -> list[tuple[str, str]]:
    """The resources that an object has a part in, each with why it was made without it, empty where it was not."""
    return [(at.resource, row.problem) for at in look.keys(RESULTS_BY_OBJECT, key) if (row := look(RESULTS, at))]
