CREATE INDEX documents_trashed_of ON documents (collection, document) WHERE trashed IS NOT NULL;
