-- An accept that waits for the store. meta is JSON; at is the gateway's wall clock in milliseconds.
CREATE TABLE item (
  seq     INTEGER PRIMARY KEY AUTOINCREMENT,
  source  TEXT NOT NULL,
  at      INTEGER NOT NULL,
  refused INTEGER NOT NULL DEFAULT 0,
  stuck   INTEGER NOT NULL DEFAULT 0,
  reason  TEXT NOT NULL DEFAULT '',
  size    INTEGER NOT NULL,
  meta    BLOB NOT NULL,
  headers BLOB NOT NULL,
  body    BLOB NOT NULL
);
CREATE INDEX item_waiting ON item (source, seq) WHERE stuck = 0;
