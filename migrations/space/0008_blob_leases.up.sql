-- Until when no collection takes a blob that was added here and that no document has named yet: for
-- ever (the greatest number) while the space is open, from the next opening on for a while.
ALTER TABLE blobs ADD COLUMN leased_until INTEGER;

CREATE INDEX blobs_leased ON blobs (leased_until) WHERE leased_until IS NOT NULL;
