-- Events are found by key, task and id in sorted runs. Those of before are written into such when the file is opened.

DROP INDEX event_id;
DROP TABLE dedupe;
DROP TABLE task;
DELETE FROM meta WHERE key = 'indexed';

-- A run finds the events of a range of the sequence, and is never changed (run.go).
CREATE TABLE run (
	id       INTEGER PRIMARY KEY,
	first    INTEGER NOT NULL, -- its range of the sequence
	last     INTEGER NOT NULL,
	events   INTEGER NOT NULL, -- how many it finds
	newest   INTEGER NOT NULL, -- when its last event was accepted
	earliest INTEGER NOT NULL, -- the times in the ids of its events, by which a run is passed over
	latest   INTEGER NOT NULL,
	filter   BLOB NOT NULL     -- which keys it may have (filter.go)
);
CREATE TABLE run_page (
	run     INTEGER NOT NULL,
	kind    INTEGER NOT NULL,
	low     INTEGER NOT NULL, -- the first of its entries
	entries BLOB NOT NULL,
	PRIMARY KEY (run, kind, low)
) WITHOUT ROWID;
