-- Documents whose words are indexed and whose vectors are still to be made, in the order in which they
-- came to be so: all from `first` to `last` that have none. One that changed again meanwhile is here
-- again; all are, where the app brings another embedder.
DROP TABLE unembedded;
CREATE TABLE unembedded (
    place INTEGER PRIMARY KEY,
    first INTEGER NOT NULL,
    last  INTEGER NOT NULL
) STRICT;
