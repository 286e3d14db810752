-- Documents' histories apart from their values, in parts: an edit adds one, and rewrites neither
-- the parts before it nor, with the value, all of them. One behind the other they are Automerge's
-- format.
CREATE TABLE histories (
    document INTEGER NOT NULL,
    part     INTEGER NOT NULL,
    bytes    BLOB NOT NULL,
    PRIMARY KEY (document, part)
) STRICT, WITHOUT ROWID;

INSERT INTO histories SELECT document, 0, automerge FROM documents WHERE automerge IS NOT NULL;
ALTER TABLE documents DROP COLUMN automerge;
