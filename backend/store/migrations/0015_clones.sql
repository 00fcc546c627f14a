-- Signs that a gateway's identity is in use twice. Times are Unix milliseconds.

-- +goose Up
CREATE TABLE clones (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  gateway TEXT    NOT NULL REFERENCES gateways (serial),
  noticed INTEGER NOT NULL,
  reason  TEXT    NOT NULL
) STRICT;

CREATE INDEX clones_by_gateway ON clones (gateway, noticed);

-- +goose Down
DROP TABLE clones;
