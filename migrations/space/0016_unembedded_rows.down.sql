DROP TABLE unembedded;
CREATE TABLE unembedded (
    place    INTEGER PRIMARY KEY,
    document INTEGER NOT NULL
) STRICT;
