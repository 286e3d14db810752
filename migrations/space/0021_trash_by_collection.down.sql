DROP INDEX documents_trashed_of;
