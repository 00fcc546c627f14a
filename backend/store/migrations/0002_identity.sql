-- Which gateways there are, what was issued to them, and what was revoked. Times
-- are Unix milliseconds.

-- +goose Up
CREATE TABLE gateways (
  serial TEXT    PRIMARY KEY,
  model  TEXT    NOT NULL,
  board  TEXT    NOT NULL,
  added  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE certificates (
  number     TEXT    PRIMARY KEY, -- serial number of the certificate, hexadecimal
  gateway    TEXT    NOT NULL REFERENCES gateways (serial),
  role       TEXT    NOT NULL,    -- factory or operational
  key        BLOB    NOT NULL,    -- SHA-256 of its public key
  der        BLOB    NOT NULL,
  not_before INTEGER NOT NULL,
  not_after  INTEGER NOT NULL,
  issued     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX certificates_by_gateway ON certificates (gateway);

-- A revocation is of a gateway, whatever certificate it shows, or of one of its
-- certificates. Rows are never changed nor removed, so that whoever has seen them
-- up to an id need only look beyond it.
CREATE TABLE revocations (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  gateway TEXT    NOT NULL REFERENCES gateways (serial),
  number  TEXT    NOT NULL, -- of the certificate; empty: every certificate
  revoked INTEGER NOT NULL,
  reason  TEXT    NOT NULL,
  UNIQUE (gateway, number)
) STRICT;

-- +goose Down
DROP TABLE revocations;
DROP TABLE certificates;
DROP TABLE gateways;
