ALTER TABLE spaces DROP COLUMN rekey_wished_at;
ALTER TABLE spaces DROP COLUMN key_created_at;
