INSERT INTO search_text (search_text, rank) VALUES ('automerge', 4);
