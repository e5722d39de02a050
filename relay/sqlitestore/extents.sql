-- What lists pass over: the events of a range of the sequence were received between two times, from some sources (extent.go).

CREATE TABLE extent (
	first    INTEGER PRIMARY KEY,
	last     INTEGER NOT NULL,
	earliest INTEGER NOT NULL,
	latest   INTEGER NOT NULL,
	sources  INTEGER NOT NULL -- a set of 64 bits
);
