-- Claim codes: what is printed on the label of a gateway. Times are Unix milliseconds.

-- +goose Up
-- Rows are never removed: the code of a label that was replaced stays void.
CREATE TABLE claims (
  hash     BLOB    PRIMARY KEY, -- SHA-256 of the code, which is known to the label alone
  gateway  TEXT    NOT NULL REFERENCES gateways (serial),
  added    INTEGER NOT NULL,
  replaced INTEGER              -- when another took its place; NULL: it is good
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX claims_good ON claims (gateway) WHERE replaced IS NULL;

-- +goose Down
DROP TABLE claims;
