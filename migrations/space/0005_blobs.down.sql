DROP TABLE blob_names;
DROP TABLE staged;
DROP TABLE blob_chunks;
DROP TABLE chunk_bytes;
DROP TABLE chunks;
DROP TABLE blobs;
