-- People who sign in to the web client, and their sessions. Times are Unix
-- milliseconds.

-- +goose Up
CREATE TABLE accounts (
  id         INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice
  email      TEXT    NOT NULL UNIQUE, -- as access.CleanEmail writes it
  password   TEXT    NOT NULL,        -- argon2id with its parameters and salt
  role       TEXT    NOT NULL CHECK (role IN ('administrator', 'viewer')),
  generation INTEGER NOT NULL,        -- grows with each new password: a session of an older one is void
  added      INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
  id      TEXT    PRIMARY KEY, -- a hash of the cookie's token: a stolen database opens nothing
  data    BLOB    NOT NULL,
  seen    INTEGER NOT NULL,    -- last use, to within a minute
  expires INTEGER NOT NULL     -- however much it is used
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_by_expiry ON sessions (expires);

-- +goose Down
DROP TABLE sessions;
DROP TABLE accounts;
