-- What is above the device's clearance and nobody else is known to have is kept until somebody has
-- it (docs/format/log.md): sections, as they were sealed or opened, and chunks of blobs.
DROP INDEX sections_hidden;
CREATE INDEX sections_hidden ON sections (section)
    WHERE state = 7 AND (sealed IS NOT NULL OR opened IS NOT NULL);

-- By the section of the manifest that names them.
CREATE TABLE kept_chunks (
    section INTEGER NOT NULL,
    chunk   INTEGER NOT NULL REFERENCES chunks (chunk),
    band    INTEGER NOT NULL,
    PRIMARY KEY (section, chunk)
) STRICT, WITHOUT ROWID;

CREATE INDEX kept_chunks_chunk ON kept_chunks (chunk);
