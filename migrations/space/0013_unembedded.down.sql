DROP TABLE unembedded;
