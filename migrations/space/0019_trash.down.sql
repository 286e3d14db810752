DROP INDEX documents_trashed;
ALTER TABLE documents DROP COLUMN trashed;
