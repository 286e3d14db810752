DROP TABLE piece_names;
DROP TABLE pieces;
DROP TABLE fetched;
