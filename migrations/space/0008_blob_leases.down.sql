DROP INDEX blobs_leased;
ALTER TABLE blobs DROP COLUMN leased_until;
