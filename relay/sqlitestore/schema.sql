-- Version 1. Times named accepted, due, settled, since and at are milliseconds of the store's own clock (clock.go);
-- received and dead_at are wall clocks in milliseconds, for people. Every row is written as seldom as can be:
-- a delivered event costs one insert per table and index, and one update and one insert per delivery.

CREATE TABLE meta (
	key   TEXT PRIMARY KEY,
	value INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE source (
	id   INTEGER PRIMARY KEY,
	name TEXT NOT NULL UNIQUE
);

-- The tallies are kept here, since counting a million rows at every start would take too long.
CREATE TABLE destination (
	id        INTEGER PRIMARY KEY,
	source    INTEGER NOT NULL,
	name      TEXT NOT NULL,
	paused    INTEGER NOT NULL DEFAULT 0,
	pending   INTEGER NOT NULL DEFAULT 0,
	delivered INTEGER NOT NULL DEFAULT 0,
	dead      INTEGER NOT NULL DEFAULT 0,
	low       INTEGER NOT NULL DEFAULT 0, -- no delivery of an event before this one is ready
	UNIQUE (source, name)
);

CREATE TABLE event (
	seq      INTEGER PRIMARY KEY,
	id       BLOB NOT NULL,
	source   INTEGER NOT NULL,
	task     TEXT NOT NULL,
	stage    TEXT NOT NULL,
	code     TEXT NOT NULL,
	key      BLOB NOT NULL,
	fingerprint BLOB NOT NULL,
	origin   TEXT NOT NULL,
	accepted INTEGER NOT NULL,
	received INTEGER NOT NULL,
	headers  BLOB,
	body     BLOB NOT NULL
);
CREATE UNIQUE INDEX event_id ON event (id);

-- The events of a key, by its first eight bytes, and those of a task, by a hash of its name. What is found is compared
-- with the event's own row. They come in random order, so that every page is written again and again: rows are small, and
-- the newest events stand here only once memory has gathered many of them (recent.go).
CREATE TABLE dedupe (
	hash  INTEGER NOT NULL,
	event INTEGER NOT NULL,
	PRIMARY KEY (hash, event)
) WITHOUT ROWID;
CREATE TABLE task (
	hash  INTEGER NOT NULL,
	event INTEGER NOT NULL,
	PRIMARY KEY (hash, event)
) WITHOUT ROWID;

-- A key is remembered for its source's window, also if its event is gone.
CREATE TABLE outlived (
	source      INTEGER NOT NULL,
	key         BLOB NOT NULL,
	event       INTEGER NOT NULL,
	id          BLOB NOT NULL,
	fingerprint BLOB NOT NULL,
	at          INTEGER NOT NULL,
	PRIMARY KEY (source, key)
) WITHOUT ROWID;
CREATE INDEX outlived_at ON outlived (source, at);

CREATE TABLE delivery (
	event       INTEGER NOT NULL,
	destination INTEGER NOT NULL,
	state       INTEGER NOT NULL, -- state.go
	due         INTEGER NOT NULL DEFAULT 0,
	tries       INTEGER NOT NULL DEFAULT 0,
	used        INTEGER NOT NULL DEFAULT 0,
	replay      INTEGER NOT NULL DEFAULT 0,
	variant     INTEGER NOT NULL DEFAULT 0,
	settled     INTEGER NOT NULL DEFAULT 0,
	dead_at     INTEGER NOT NULL DEFAULT 0,
	reason      TEXT NOT NULL DEFAULT '',
	since       INTEGER NOT NULL DEFAULT 0, -- the last replay; 0 if there was none, and its age is the event's
	chain       TEXT, -- the task, of a delivery that keeps its task's order
	PRIMARY KEY (destination, event)
) WITHOUT ROWID;
-- What is ready needs no index: it stands at the end of its destination's deliveries, from destination.low on. Of the
-- others there is one small index per state that something looks for, which the common delivery never enters.
CREATE INDEX delivery_waiting ON delivery (destination, due, event)   WHERE state = 1;
CREATE INDEX delivery_dead    ON delivery (destination, event, dead_at) WHERE state = 3;
CREATE INDEX delivery_untried ON delivery (destination, due, event)   WHERE state = 1 AND tries = 0;
CREATE INDEX delivery_old     ON delivery (destination, state, since, event) WHERE state IN (1, 4);
CREATE INDEX delivery_chain   ON delivery (destination, chain, state, event) WHERE chain IS NOT NULL AND state IN (0, 1, 4);

CREATE TABLE attempt (
	event       INTEGER NOT NULL,
	destination INTEGER NOT NULL,
	n           INTEGER NOT NULL,
	at          INTEGER NOT NULL, -- wall clock, milliseconds
	duration    INTEGER NOT NULL, -- microseconds
	status      INTEGER NOT NULL,
	error       TEXT NOT NULL,
	response    BLOB,
	PRIMARY KEY (event, destination, n)
) WITHOUT ROWID;

CREATE TABLE variant (
	event       INTEGER NOT NULL,
	n           INTEGER NOT NULL,
	fingerprint BLOB NOT NULL,
	received    INTEGER NOT NULL,
	headers     BLOB,
	body        BLOB NOT NULL,
	PRIMARY KEY (event, n)
) WITHOUT ROWID;

CREATE TABLE repeat (
	event      INTEGER PRIMARY KEY,
	duplicates INTEGER NOT NULL DEFAULT 0,
	conflicts  INTEGER NOT NULL DEFAULT 0
);

-- What the sweep passed over, and when to look again.
CREATE TABLE late_event (
	at    INTEGER NOT NULL,
	event INTEGER NOT NULL,
	PRIMARY KEY (at, event)
) WITHOUT ROWID;
