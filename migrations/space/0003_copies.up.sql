-- Documents that were created under an id which another creation has (docs/format/documents.md):
-- the ids that each passed on its way to its own, from the one it was created under. What is
-- deleted by one of those ids stays here, so that nothing is created in its place by mistake.
CREATE TABLE copies (
    object BLOB NOT NULL CHECK (length(object) = 16),
    step   INTEGER NOT NULL CHECK (step >= 0),
    via    BLOB NOT NULL CHECK (length(via) = 16),
    PRIMARY KEY (object, step)
) STRICT, WITHOUT ROWID;

CREATE INDEX copies_via ON copies (via, object);
