-- How bodies are stored (body.go). The column holds 0 or 1, which need no byte of their own behind the body.

ALTER TABLE event ADD COLUMN packing INTEGER NOT NULL DEFAULT 0;
ALTER TABLE variant ADD COLUMN packing INTEGER NOT NULL DEFAULT 0;
