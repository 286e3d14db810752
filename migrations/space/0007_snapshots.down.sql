DROP TABLE named;
DROP TABLE leaves;
DROP TABLE snapshots;
