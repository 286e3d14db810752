-- When a space's at-rest key was drawn, and since when a new one is wished for, if it is.
ALTER TABLE spaces ADD COLUMN key_created_at INTEGER NOT NULL DEFAULT 0;
UPDATE spaces SET key_created_at = created_at;
ALTER TABLE spaces ADD COLUMN rekey_wished_at INTEGER;
