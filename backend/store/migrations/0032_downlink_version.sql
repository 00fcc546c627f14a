-- A number that changes with whatever is to be sent down, by any process: whoever
-- waits for that reads one row and not three tables.

-- +goose Up
CREATE TABLE downlink_version (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  n  INTEGER NOT NULL
) STRICT;
INSERT INTO downlink_version VALUES (1, 1);

CREATE INDEX watches_by_end ON watches (until);
CREATE INDEX conflicts_by_time ON conflicts (latest);

-- +goose StatementBegin
CREATE TRIGGER command_added AFTER INSERT ON commands BEGIN UPDATE downlink_version SET n = n + 1; END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER watch_added AFTER INSERT ON watches BEGIN UPDATE downlink_version SET n = n + 1; END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER watch_changed AFTER UPDATE ON watches BEGIN UPDATE downlink_version SET n = n + 1; END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER conflict_added AFTER INSERT ON conflicts BEGIN UPDATE downlink_version SET n = n + 1; END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER conflict_changed AFTER UPDATE ON conflicts BEGIN UPDATE downlink_version SET n = n + 1; END;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER conflict_changed;
DROP TRIGGER conflict_added;
DROP TRIGGER watch_changed;
DROP TRIGGER watch_added;
DROP TRIGGER command_added;
DROP INDEX conflicts_by_time;
DROP INDEX watches_by_end;
DROP TABLE downlink_version;
