-- What the writer keeps from one transaction to the next stands beside the end of the own log, which
-- changes with each of them too: one page is written for both, where there were two. This file does
-- not say which log is the own one; beside the others it is never read.
ALTER TABLE logs ADD COLUMN writer BLOB;
UPDATE logs SET writer = (SELECT value FROM space WHERE key = 'writer');
DELETE FROM space WHERE key = 'writer';
