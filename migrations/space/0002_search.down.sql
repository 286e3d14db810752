-- The vec0 tables of embedders stay behind empty of use; they are replaced at their next use.
DROP TABLE search_embedders;
DROP TABLE search_documents;
DROP TABLE search_collections;
DROP TABLE search_text;
