"""The queries of the SQLite store: functions of a connection, without transactions, threads or locks of their own."""

from __future__ import annotations

import sqlite3

import msgspec

from discovery.stores.store import Event, Past, Snapshot, StoreCorrupt, Stored, Unreadable
from mesh.kinds import decode
from mesh.kinds.meta import Object
from mesh.model import ObjectKey

EVENTS_AT_ONCE = 2000  # of a watch; the rest follows in the next batch

_HISTORY = "SELECT revision, body, author, at FROM revisions WHERE kind = ? AND namespace = ? AND name = ?"
_OBJECTS = "SELECT o.kind, o.namespace, o.name, o.revision, r.body FROM objects o JOIN revisions r USING (revision)"


def newest_revision(connection: sqlite3.Connection) -> int:
    """The revision of the newest write, 0 in an empty store."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'revisions'").fetchone()
    return 0 if row is None else int(row[0])


def revision_of(connection: sqlite3.Connection, key: ObjectKey) -> int:
    """The revision an object is at, 0 where there is none."""
    row = connection.execute(
        "SELECT revision FROM objects WHERE kind = ? AND namespace = ? AND name = ?", key
    ).fetchone()
    return 0 if row is None else int(row[0])


def row_of(connection: sqlite3.Connection, key: ObjectKey) -> tuple[int, bytes] | None:
    """An object's revision and body."""
    row = connection.execute(
        "SELECT r.revision, r.body FROM objects o JOIN revisions r USING (revision) "
        "WHERE o.kind = ? AND o.namespace = ? AND o.name = ?",
        key,
    ).fetchone()
    return None if row is None else (row[0], row[1])


def get(connection: sqlite3.Connection, key: ObjectKey) -> Stored | None:
    """One object; raises StoreCorrupt for one that cannot be read."""
    row = row_of(connection, key)
    if row is None:
        return None
    made = decoded(key.kind, row[1])
    if isinstance(made, str):
        raise StoreCorrupt(
            f"{key} at revision {row[0]} cannot be read by this Fairlead ({made})",
            fix="Write it anew, or roll it back to an older revision.",
        )
    return Stored(made, row[0])


def everything(connection: sqlite3.Connection) -> Snapshot:
    """Every object, at one revision."""
    connection.execute("BEGIN")  # both reads see one state
    try:
        revision = newest_revision(connection)
        rows = connection.execute(_OBJECTS).fetchall()
    finally:
        connection.execute("COMMIT")
    objects: list[Stored] = []
    unreadable: list[Unreadable] = []
    for kind, namespace, name, number, body in sorted(rows):
        made = decoded(kind, body)
        if isinstance(made, str):
            unreadable.append(Unreadable(ObjectKey(kind, namespace, name), number, made))
        else:
            objects.append(Stored(made, number))
    return Snapshot(revision, tuple(objects), tuple(unreadable))


def of_kind(connection: sqlite3.Connection, kind: str, namespace: str | None) -> tuple[Stored, ...]:
    """The readable objects of a kind, sorted."""
    where, values = (
        ("o.kind = ?", [kind]) if namespace is None else ("o.kind = ? AND o.namespace = ?", [kind, namespace])
    )
    rows = connection.execute(f"{_OBJECTS} WHERE {where}", values).fetchall()
    found = ((decoded(kind, row[4]), row[3]) for row in sorted(rows))
    return tuple(Stored(made, revision) for made, revision in found if not isinstance(made, str))


def changes(connection: sqlite3.Connection, after: int) -> tuple[Event, ...]:
    """The latest state of every key that changed after a revision, oldest change first."""
    rows = connection.execute(
        "SELECT kind, namespace, name, revision, body FROM revisions JOIN (SELECT max(revision) AS revision "
        "FROM revisions WHERE revision > ? GROUP BY kind, namespace, name) USING (revision) ORDER BY revision LIMIT ?",
        (after, EVENTS_AT_ONCE),
    ).fetchall()
    events = []
    for kind, namespace, name, revision, body in rows:
        made = None if body is None else decoded(kind, body)
        key = ObjectKey(kind, namespace, name)
        events.append(Event(key, revision, None, made) if isinstance(made, str) else Event(key, revision, made))
    return tuple(events)


def history(connection: sqlite3.Connection, key: ObjectKey, limit: int) -> tuple[Past, ...]:
    """The newest revisions of an object, newest first."""
    rows = connection.execute(f"{_HISTORY} ORDER BY revision DESC LIMIT ?", (*key, limit)).fetchall()
    return tuple(_past_of(key, *row) for row in rows)


def past(connection: sqlite3.Connection, key: ObjectKey, revision: int) -> Past | None:
    """One revision of an object."""
    row = connection.execute(f"{_HISTORY} AND revision = ?", (*key, revision)).fetchone()
    return None if row is None else _past_of(key, *row)


def _past_of(key: ObjectKey, revision: int, body: bytes | None, by: str, at: str) -> Past:
    made = None if body is None else decoded(key.kind, body)
    return Past(key, revision, None, by, at, made) if isinstance(made, str) else Past(key, revision, made, by, at)


def documents(connection: sqlite3.Connection, collection: str) -> dict[str, bytes]:
    """The documents of a collection."""
    rows = connection.execute("SELECT name, body FROM documents WHERE collection = ? ORDER BY name", (collection,))
    return dict(rows.fetchall())


def decoded(kind: str, body: bytes) -> Object | str:
    """The object in a row, or why this Fairlead cannot read it."""
    try:
        return decode(kind, body)
    except (msgspec.MsgspecError, LookupError) as error:
        return f"{type(error).__name__}: {error}"
