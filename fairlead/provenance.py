"""From an object forward to the Envoy resources that were made from it: the other direction of `Engine.origins`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mesh.tables import Engine, Table


def dependents(engine: Engine, start: Table[Any, Any], key: Any, *, among: frozenset[Table[Any, Any]]) -> list[Any]:
    """The keys of the rows of `among` that were made from a row, directly or through other rows, sorted.

    Follows recorded reads as `Engine.origins` does, so a row that read it and made nothing of it counts too. Cost
    follows the number of rows between.
    """
    position = engine._stored[start].position
    found: set[Any] = set()
    seen = {(position, key)}
    todo = [(position, key)]
    while todo:
        at, row_key = todo.pop()
        stored = engine._order[at]
        if stored.table in among:
            found.add(row_key)
            continue
        for reader in _readers(stored, row_key):
            if reader not in seen:
                seen.add(reader)
                todo.append(reader)
    return sorted(found)


def _readers(stored: Any, key: Any) -> Iterator[tuple[int, Any]]:
    yield from stored.readers.get(key, ())
    row = stored.rows.get(key)
    if row is None:
        return
    for number, index in enumerate(stored.table.indexes):
        for group in index.of(key, row):
            yield from stored.index_readers[number].get(group, ())
