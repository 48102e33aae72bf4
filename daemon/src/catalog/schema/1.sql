-- The catalogue, version 1. Databases of this version exist: what follows is never edited, a change is a new step.
-- Paths are bytes: a file name need not be text.

-- Every image that was ever taken in, by content: two copies of a file are one row.
CREATE TABLE images (
    id           TEXT PRIMARY KEY,           -- SHA-256 of the file, 64 hex digits
    width_px     INTEGER NOT NULL,
    height_px    INTEGER NOT NULL,
    bytes        INTEGER NOT NULL,
    added        INTEGER NOT NULL,           -- Unix time, s; later than of all that came before
    canonical_px INTEGER                     -- short side of the cached pixels; NULL when they were lost, 0 when let go
) STRICT, WITHOUT ROWID;

-- Where each image was seen, and how the file looked then. A path that is rewritten moves on to its new image.
CREATE TABLE paths (
    path        BLOB PRIMARY KEY,
    source      BLOB NOT NULL,
    image       TEXT NOT NULL REFERENCES images (id),
    bytes       INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    changed_ns  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX paths_by_source ON paths (source, image);

-- Files that are no usable images. A file that changes is tried again.
CREATE TABLE quarantine (
    path        BLOB PRIMARY KEY,
    source      BLOB NOT NULL,
    reason      TEXT NOT NULL,
    added       INTEGER NOT NULL,            -- Unix time, s
    bytes       INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    changed_ns  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX quarantine_by_source ON quarantine (source);

CREATE TABLE rounds (
    round        INTEGER PRIMARY KEY,
    trigger      TEXT NOT NULL,
    started      INTEGER NOT NULL,           -- Unix time, s
    ended        INTEGER,
    images       INTEGER NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('running', 'promoted', 'kept', 'failed', 'cancelled', 'interrupted')),
    generation   INTEGER,                    -- of a promoted round
    failure_kind TEXT,                       -- of a failed round
    message      TEXT,                       -- why it was kept out or failed
    hint         TEXT,
    progress     TEXT,                       -- the last progress, JSON
    warnings     TEXT NOT NULL               -- JSON array of strings
) STRICT;
