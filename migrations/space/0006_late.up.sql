-- Effects on documents that do not follow from the order of `sections`: of a section that had to
-- wait when it came, or, without one, of a document that moved to another id or was rebuilt.
-- `after` is the last section that was there then.
CREATE TABLE late (
    late    INTEGER PRIMARY KEY,
    after   INTEGER NOT NULL,
    object  BLOB NOT NULL CHECK (length(object) = 16),
    section INTEGER
) STRICT;

CREATE INDEX late_section ON late (section) WHERE section IS NOT NULL;
