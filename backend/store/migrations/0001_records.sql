-- What gateways send. Times are Unix milliseconds.

-- +goose Up
CREATE TABLE records (
  gateway  TEXT    NOT NULL,
  epoch    BLOB    NOT NULL,
  lane     INTEGER NOT NULL,
  seq      INTEGER NOT NULL,
  kind     INTEGER NOT NULL,
  readable INTEGER NOT NULL, -- 0: kept as it came, nobody could decode it
  received INTEGER NOT NULL,
  earliest INTEGER NOT NULL, -- the times of its readings, of its gap; received for others
  latest   INTEGER NOT NULL,
  readings INTEGER NOT NULL,
  publish  BLOB    NOT NULL, -- the whole Record as it was published
  PRIMARY KEY (gateway, epoch, lane, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX records_by_time ON records (gateway, kind, latest);

-- A catalogue is named by its content; a block names the one that explains it.
CREATE TABLE catalogues (
  gateway  TEXT    NOT NULL,
  name     BLOB    NOT NULL,
  received INTEGER NOT NULL,
  body     BLOB    NOT NULL,
  PRIMARY KEY (gateway, name)
) STRICT, WITHOUT ROWID;

-- What came under a name that was taken by other content, and what had no name
-- that could be read. Kept once each.
CREATE TABLE oddities (
  gateway  TEXT    NOT NULL,
  hash     BLOB    NOT NULL, -- SHA-256 of publish
  received INTEGER NOT NULL,
  conflict INTEGER NOT NULL, -- 1: its name was taken; 0: it has none
  reason   TEXT    NOT NULL,
  publish  BLOB    NOT NULL,
  PRIMARY KEY (gateway, hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE presence (
  gateway TEXT    PRIMARY KEY,
  online  INTEGER NOT NULL,
  since   INTEGER NOT NULL,
  session INTEGER NOT NULL, -- its own count of its sessions
  state   BLOB    NOT NULL  -- the JSON of its state topic
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE presence;
DROP TABLE oddities;
DROP TABLE catalogues;
DROP TABLE records;
