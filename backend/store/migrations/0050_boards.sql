-- An operational certificate belongs to the board that enrolled it: to the key of
-- the factory identity that was in force.

-- +goose Up
ALTER TABLE certificates ADD COLUMN board BLOB; -- SHA-256 of that key; NULL: not known, or a factory identity
UPDATE certificates SET board = (SELECT f.key FROM certificates f
    WHERE f.gateway = certificates.gateway AND f.role = 'factory' AND f.issued <= certificates.issued
    ORDER BY f.issued DESC, f.number LIMIT 1)
  WHERE role = 'operational';

-- +goose Down
ALTER TABLE certificates DROP COLUMN board;
