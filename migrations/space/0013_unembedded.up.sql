-- Documents whose words are indexed as they are now and whose vectors are still to be made, in the
-- order in which they came to be so. One that changed again meanwhile is here again.
CREATE TABLE unembedded (
    place    INTEGER PRIMARY KEY,
    document INTEGER NOT NULL
) STRICT;
