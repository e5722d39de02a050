-- The deliveries of an event that were leased as it was accepted are one row, and have rows of their own only once they
-- leave that path (pack.go).

CREATE TABLE packed (
	event      INTEGER PRIMARY KEY,
	deliveries BLOB NOT NULL
);
