DROP TABLE stray_acts;
