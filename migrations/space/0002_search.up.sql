-- The words of documents. Contentless: the text itself is in the document's own row and is not
-- stored twice. Taking a document out needs its old text; with secure-delete its words leave the
-- index at once, where contentless_delete would leave them until some later merge.
CREATE VIRTUAL TABLE search_text USING fts5(
    title,
    body,
    content = '',
    tokenize = 'unicode61 remove_diacritics 2'
);
INSERT INTO search_text(search_text, rank) VALUES ('secure-delete', 1);

CREATE TABLE search_collections (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- What is in search_text: rowid there = document here. The digest guards against taking out
-- another text than was put in, which would damage the index.
CREATE TABLE search_documents (
    document INTEGER PRIMARY KEY,
    collection INTEGER NOT NULL REFERENCES search_collections(id),
    digest BLOB NOT NULL
) STRICT;

-- Each embedder has a vec0 table of its own, search_vectors_<id>, made when it is first used.
CREATE TABLE search_embedders (
    id TEXT NOT NULL PRIMARY KEY,
    dimensions INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
