-- What goes down to gateways. Times are Unix milliseconds.

-- +goose Up
-- How many owners a gateway has had; none: the first.
CREATE TABLE owners (
  gateway TEXT    PRIMARY KEY REFERENCES gateways (serial),
  owner   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE commands (
  n        INTEGER PRIMARY KEY, -- in the order in which they were asked for
  id       BLOB    NOT NULL UNIQUE, -- 16 random bytes
  gateway  TEXT    NOT NULL REFERENCES gateways (serial),
  pump     TEXT    NOT NULL,
  name     TEXT    NOT NULL,
  value    TEXT    NOT NULL,
  owner    INTEGER NOT NULL,
  by       TEXT    NOT NULL,    -- who asked
  created  INTEGER NOT NULL,
  expires  INTEGER NOT NULL,
  sent     INTEGER,             -- when it first went out to the gateway
  outcome  INTEGER,             -- of telemetry.Outcome, once it is known
  answered INTEGER,             -- the time in the result
  raw      INTEGER,
  text     TEXT
) STRICT;

CREATE INDEX commands_open ON commands (expires) WHERE outcome IS NULL;
CREATE INDEX commands_by_gateway ON commands (gateway, n);

-- Until when somebody looks at a gateway.
CREATE TABLE watches (
  gateway TEXT    PRIMARY KEY,
  until   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Epochs under which two contents have come for one name.
CREATE TABLE conflicts (
  gateway TEXT    NOT NULL,
  epoch   BLOB    NOT NULL,
  latest  INTEGER NOT NULL, -- when that was last seen
  PRIMARY KEY (gateway, epoch)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE conflicts;
DROP TABLE watches;
DROP TABLE commands;
DROP TABLE owners;
