DROP TABLE joining;
DROP TABLE peers;
DROP TABLE spaces;
DROP TABLE keys;
DROP TABLE settings;
