-- +goose Up

-- 1 if headers, bodies and console output were not stored, since the account had used up its
-- quota of bytes; NULL otherwise.
ALTER TABLE attempt ADD COLUMN not_stored INTEGER;

-- A deleted subscription or script left its row, of which nothing is read.
UPDATE subscription SET events = NULL, target_url = '', reason = '', filter = '', transform = '', payload_format = '',
    description = '', metadata = NULL, settings = NULL
WHERE deleted_at IS NOT NULL;
DELETE FROM script_version WHERE script_id NOT IN (SELECT id FROM script WHERE deleted_at IS NULL);
DELETE FROM script WHERE deleted_at IS NOT NULL;

-- What is stored for an account, in bytes: the texts and blobs of its rows, and 100 for each row
-- (stored_bytes.go). The writer adds what a commit writes and subtracts what it removes. The
-- table of this name counted the data of events only.
DROP TABLE stored_bytes;

CREATE TABLE stored_bytes (
    account       TEXT    PRIMARY KEY,
    events        INTEGER NOT NULL, -- with idempotency keys, and 100 for each target
    deliveries    INTEGER NOT NULL, -- attempts
    configuration INTEGER NOT NULL, -- with replays and the answers to idempotent requests
    audit         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- 0: stored_bytes must be computed from the other tables, which the next start does.
INSERT INTO meta (name, value) VALUES ('bytes_counted', 0);
