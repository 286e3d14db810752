DROP TABLE security_counts;
DROP TABLE security;
