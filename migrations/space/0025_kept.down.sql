DROP TABLE kept_chunks;
DROP INDEX sections_hidden;
CREATE INDEX sections_hidden ON sections (section) WHERE state = 7 AND sealed IS NOT NULL;
