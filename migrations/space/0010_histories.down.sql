-- Made anew, since a column that is added would stand last.
CREATE TABLE documents_apart AS SELECT document, object, collection, generation, created_log,
    created_seq, created_wall, created_count, updated_log, updated_seq, updated_wall, updated_count,
    heads, json FROM documents;
DROP TABLE documents;

CREATE TABLE documents (
    document      INTEGER PRIMARY KEY,
    object        BLOB NOT NULL UNIQUE CHECK (length(object) = 16),
    collection    TEXT NOT NULL,
    generation    BLOB NOT NULL CHECK (length(generation) = 32),
    created_log   INTEGER NOT NULL,
    created_seq   INTEGER NOT NULL,
    created_wall  INTEGER NOT NULL,
    created_count INTEGER NOT NULL,
    updated_log   INTEGER NOT NULL,
    updated_seq   INTEGER NOT NULL,
    updated_wall  INTEGER NOT NULL,
    updated_count INTEGER NOT NULL,
    heads         BLOB NOT NULL,
    json          TEXT NOT NULL,
    automerge     BLOB,
    path          TEXT AS (
        CASE json_type(json, '$.path') WHEN 'text' THEN json_extract(json, '$.path') END
    ) VIRTUAL
) STRICT;

CREATE INDEX documents_collection ON documents (collection, document);
CREATE INDEX documents_path ON documents (collection, path) WHERE path IS NOT NULL;

INSERT INTO documents (document, object, collection, generation, created_log, created_seq,
    created_wall, created_count, updated_log, updated_seq, updated_wall, updated_count, heads, json)
    SELECT * FROM documents_apart;
DROP TABLE documents_apart;

-- Text, until it is cast, is the same bytes.
WITH RECURSIVE whole (document, part, bytes) AS (
    SELECT document, part, bytes FROM histories h
        WHERE part = (SELECT min(part) FROM histories WHERE document = h.document)
    UNION ALL
    SELECT document, n.part, CAST(w.bytes || n.bytes AS BLOB)
        FROM whole w JOIN histories n USING (document) WHERE n.part = w.part + 1
)
UPDATE documents SET automerge = bytes FROM (SELECT document, bytes, max(part) FROM whole
    GROUP BY document) w WHERE w.document = documents.document;
DROP TABLE histories;
