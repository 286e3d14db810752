-- Blobs, and which chunk stands where in them: all that a manifest says. It is content, as
-- documents are, and kept opened, within sealed pages.
CREATE TABLE blobs (
    blob          INTEGER PRIMARY KEY,
    id            BLOB NOT NULL UNIQUE CHECK (length(id) = 32),
    log           INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    added_wall    INTEGER NOT NULL,
    size          INTEGER NOT NULL CHECK (size >= 0),
    media_type    TEXT NOT NULL,
    name          TEXT,
    missing       INTEGER NOT NULL CHECK (missing >= 0),
    wanted        INTEGER NOT NULL DEFAULT 0 CHECK (wanted IN (0, 1)),
    unnamed_since INTEGER,
    unnamed_at    INTEGER
) STRICT;

CREATE INDEX blobs_missing ON blobs (blob) WHERE missing > 0;

-- Sealed chunks, each once. `opened` is the digest of what is in it, with the key that showed it.
CREATE TABLE chunks (
    chunk  INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    held   INTEGER NOT NULL CHECK (held IN (0, 1)),
    opened BLOB CHECK (length(opened) = 32),
    key    BLOB CHECK (length(key) = 32)
) STRICT;

CREATE INDEX chunks_opened ON chunks (opened) WHERE opened IS NOT NULL;

-- Apart from `chunks`, so that counting those does not page through these.
CREATE TABLE chunk_bytes (
    chunk  INTEGER PRIMARY KEY,
    sealed BLOB NOT NULL
) STRICT;

CREATE TABLE blob_chunks (
    blob  INTEGER NOT NULL,
    start INTEGER NOT NULL,
    len   INTEGER NOT NULL,
    chunk INTEGER NOT NULL,
    key   BLOB NOT NULL CHECK (length(key) = 32),
    PRIMARY KEY (blob, start)
) STRICT, WITHOUT ROWID;

CREATE INDEX blob_chunks_chunk ON blob_chunks (chunk, blob);

-- Chunks of blobs that are being added: in no manifest yet.
CREATE TABLE staged (
    chunk INTEGER PRIMARY KEY
) STRICT;

-- Which live documents name which blobs, known or not. Made from documents.json.
CREATE TABLE blob_names (
    id       BLOB NOT NULL CHECK (length(id) = 32),
    document INTEGER NOT NULL,
    PRIMARY KEY (id, document)
) STRICT, WITHOUT ROWID;

CREATE INDEX blob_names_document ON blob_names (document);
