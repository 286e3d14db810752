DROP INDEX sections_hidden;
