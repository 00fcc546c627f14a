-- The newest reading of each point of a gateway, kept with each commit. A look at a
-- gateway then decodes no block, however long ago a slow point was read. Times are
-- Unix milliseconds.

-- +goose Up
CREATE TABLE newest (
  gateway TEXT    NOT NULL UNIQUE,
  last    INTEGER NOT NULL, -- time of the newest reading; 0: none
  ahead   INTEGER NOT NULL, -- the latest time that a reading had beyond the present when it came; 0: none
  points  BLOB    NOT NULL  -- as newest.go writes it
) STRICT;

-- Two catalogues may come in one millisecond: n says which came later.
ALTER TABLE catalogues ADD COLUMN n INTEGER NOT NULL DEFAULT 0;
UPDATE catalogues SET n = (SELECT count(*) FROM catalogues c
  WHERE c.gateway = catalogues.gateway AND (c.received, c.name) <= (catalogues.received, catalogues.name));

-- +goose Down
ALTER TABLE catalogues DROP COLUMN n;
DROP TABLE newest;
