-- What gateways say of their links at once, such as that most of a month's data
-- is used. Times are Unix milliseconds.

-- +goose Up
CREATE TABLE link_events (
  gateway TEXT    NOT NULL,
  time    INTEGER NOT NULL,
  link    TEXT    NOT NULL,
  point   TEXT    NOT NULL,
  raw     INTEGER NOT NULL,
  PRIMARY KEY (gateway, time, link, point)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE link_events;
