DROP INDEX units_of_entry;
DELETE FROM units WHERE log IS NOT NULL;
ALTER TABLE units DROP COLUMN log;
DROP TABLE carry_ends;
