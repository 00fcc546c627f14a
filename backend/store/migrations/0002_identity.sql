-- Which gateways there are, and what was issued to them. Times are Unix
-- milliseconds.

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
  not_before INTEGER NOT NULL,
  not_after  INTEGER NOT NULL,
  issued     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX certificates_by_gateway ON certificates (gateway);

-- A revocation is of the gateway, whatever certificate it shows.
CREATE TABLE revocations (
  gateway TEXT    PRIMARY KEY REFERENCES gateways (serial),
  revoked INTEGER NOT NULL,
  reason  TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE revocations;
DROP TABLE certificates;
DROP TABLE gateways;
