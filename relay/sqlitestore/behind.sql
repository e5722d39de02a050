-- Version 2: deliveries that wait for another one of their event, and files.

ALTER TABLE delivery ADD COLUMN behind INTEGER; -- the destination whose delivery it was accepted behind
-- Those that may still wait: such a one is never due.
CREATE INDEX delivery_behind ON delivery (behind, event) WHERE behind IS NOT NULL AND state IN (1, 4);

CREATE TABLE file (
	event  INTEGER NOT NULL,
	field  TEXT NOT NULL,
	url    TEXT NOT NULL,
	object TEXT NOT NULL,
	type   TEXT NOT NULL,
	size   INTEGER NOT NULL,
	sha256 TEXT NOT NULL,
	PRIMARY KEY (event, field)
) WITHOUT ROWID;
