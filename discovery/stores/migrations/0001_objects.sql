-- Every write of an object, numbered by one counter: the revision. A NULL body is a deletion.
-- AUTOINCREMENT: a number is never used twice, even after the newest rows were trimmed.
CREATE TABLE revisions (
  revision INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,
  namespace TEXT NOT NULL,
  name TEXT NOT NULL,
  body BLOB,
  author TEXT NOT NULL,
  at TEXT NOT NULL
);
CREATE INDEX revisions_by_object ON revisions (kind, namespace, name, revision);

-- The objects that exist now; the body is that of their revision.
CREATE TABLE objects (
  kind TEXT NOT NULL,
  namespace TEXT NOT NULL,
  name TEXT NOT NULL,
  revision INTEGER NOT NULL,
  PRIMARY KEY (kind, namespace, name)
) WITHOUT ROWID;

-- Small documents of the running program: what Envoys rejected, the last copies of sources.
CREATE TABLE documents (
  collection TEXT NOT NULL,
  name TEXT NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (collection, name)
) WITHOUT ROWID;
