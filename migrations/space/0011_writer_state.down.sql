INSERT INTO space SELECT 'writer', writer FROM logs WHERE writer IS NOT NULL ORDER BY log LIMIT 1;
ALTER TABLE logs DROP COLUMN writer;
