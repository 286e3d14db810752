-- Since when a document is in the trash, as who put it there claims, in milliseconds.
ALTER TABLE documents ADD COLUMN trashed INTEGER;

CREATE INDEX documents_trashed ON documents (document) WHERE trashed IS NOT NULL;
