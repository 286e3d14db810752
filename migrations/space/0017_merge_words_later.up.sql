-- A merge of the index of words begins with eight segments of a level, not with four: each word is
-- written anew less often, and a search looks into a few segments more.
INSERT INTO search_text (search_text, rank) VALUES ('automerge', 8);
