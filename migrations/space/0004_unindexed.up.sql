-- Documents that the search indexes are behind with, in the order in which they came to be so. Each
-- is here once, however often it changes. `indexed` is the JSON that its words in search_text are
-- of, which it takes to take them out again; null if it has none there.
CREATE TABLE unindexed (
    place    INTEGER PRIMARY KEY,
    document INTEGER NOT NULL UNIQUE,
    indexed  TEXT
) STRICT;
