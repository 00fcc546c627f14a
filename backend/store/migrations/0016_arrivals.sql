-- Where records arrive. Those of a thousand gateways lie side by side here, on a
-- few pages that every commit writes; in their own places, by gateway, each would
-- touch pages of its own. Once there are many, they are filed together.

-- +goose Up
ALTER TABLE records RENAME TO filed;

CREATE TABLE arrivals (
  gateway  TEXT    NOT NULL,
  epoch    BLOB    NOT NULL,
  lane     INTEGER NOT NULL,
  seq      INTEGER NOT NULL,
  kind     INTEGER NOT NULL,
  readable INTEGER NOT NULL,
  received INTEGER NOT NULL,
  earliest INTEGER NOT NULL,
  latest   INTEGER NOT NULL,
  readings INTEGER NOT NULL,
  publish  BLOB    NOT NULL,
  UNIQUE (gateway, epoch, lane, seq)
) STRICT;

CREATE INDEX arrivals_by_time ON arrivals (gateway, kind, latest);

-- All of them, for whoever asks.
CREATE VIEW records AS
  SELECT gateway, epoch, lane, seq, kind, readable, received, earliest, latest, readings, publish FROM filed
  UNION ALL
  SELECT gateway, epoch, lane, seq, kind, readable, received, earliest, latest, readings, publish FROM arrivals;

-- +goose Down
DROP VIEW records;
INSERT INTO filed SELECT gateway, epoch, lane, seq, kind, readable, received, earliest, latest, readings, publish FROM arrivals;
DROP TABLE arrivals;
ALTER TABLE filed RENAME TO records;
