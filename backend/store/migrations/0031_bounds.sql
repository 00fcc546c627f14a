-- What a gateway can make the backend keep beside its records is bounded. Times are
-- Unix milliseconds.

-- +goose Up
-- How many oddities have come; of the odd publishes themselves the newest are kept.
CREATE TABLE oddity_counts (
  gateway   TEXT    PRIMARY KEY,
  conflicts INTEGER NOT NULL,
  nameless  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO oddity_counts SELECT gateway, sum(conflict = 1), sum(conflict = 0) FROM oddities GROUP BY gateway;
CREATE INDEX oddities_by_time ON oddities (gateway, received);

-- Gateways that have used up a quota.
CREATE TABLE quotas (
  gateway TEXT    NOT NULL,
  what    TEXT    NOT NULL,
  first   INTEGER NOT NULL,
  latest  INTEGER NOT NULL,
  PRIMARY KEY (gateway, what)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE quotas;
DROP INDEX oddities_by_time;
DROP TABLE oddity_counts;
