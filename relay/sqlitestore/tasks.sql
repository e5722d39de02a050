-- Expected tasks. at, overdue, due and ended are times of the store's own clock; registered, polled and ended_at are wall
-- clocks. All are milliseconds.
CREATE TABLE expected (
	seq        INTEGER PRIMARY KEY AUTOINCREMENT,
	source     INTEGER NOT NULL,
	task       TEXT NOT NULL,
	api        TEXT NOT NULL,
	state      INTEGER NOT NULL DEFAULT 0, -- task.go
	registered INTEGER NOT NULL,
	at         INTEGER NOT NULL,
	overdue    INTEGER NOT NULL,
	due        INTEGER NOT NULL,
	token      INTEGER NOT NULL DEFAULT 0,
	polls      INTEGER NOT NULL DEFAULT 0,
	polled     INTEGER NOT NULL DEFAULT 0,
	reason     TEXT NOT NULL DEFAULT '',
	event      BLOB, -- that has ended the task, its key and what it has said of the end
	key        BLOB,
	ending     INTEGER NOT NULL DEFAULT 0,
	ended      INTEGER NOT NULL DEFAULT 0,
	ended_at   INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX expected_task ON expected (source, task);
-- A task is in one of these at a time, but for the first two.
CREATE INDEX expected_due     ON expected (source, due)     WHERE state = 0;
CREATE INDEX expected_overdue ON expected (source, overdue) WHERE state = 0;
CREATE INDEX expected_ended   ON expected (ended)           WHERE state > 0;
