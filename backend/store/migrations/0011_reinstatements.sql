-- A gateway that was revoked may be let in again, with a new operational key. The
-- revocation stays, and so does what lifted it. Times are Unix milliseconds.

-- +goose Up
CREATE TABLE revocations_2 (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  gateway TEXT    NOT NULL REFERENCES gateways (serial),
  number  TEXT    NOT NULL, -- of the certificate; empty: every certificate
  revoked INTEGER NOT NULL,
  reason  TEXT    NOT NULL
) STRICT;
INSERT INTO revocations_2 SELECT id, gateway, number, revoked, reason FROM revocations;
DROP TABLE revocations;
ALTER TABLE revocations_2 RENAME TO revocations;
CREATE INDEX revocations_by_gateway ON revocations (gateway, number);

CREATE TABLE reinstatements (
  revocation INTEGER PRIMARY KEY REFERENCES revocations (id), -- that is lifted
  lifted     INTEGER NOT NULL,
  reason     TEXT    NOT NULL
) STRICT;

-- What is in force: at most one for each gateway and number.
CREATE VIEW revoked AS SELECT * FROM revocations r
  WHERE NOT EXISTS (SELECT 1 FROM reinstatements WHERE revocation = r.id);

-- +goose Down
DROP VIEW revoked;
DROP TABLE reinstatements;
DROP INDEX revocations_by_gateway;
