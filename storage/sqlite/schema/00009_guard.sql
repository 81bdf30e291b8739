-- +goose Up

ALTER TABLE api_key ADD COLUMN expires_at INTEGER;
ALTER TABLE api_key ADD COLUMN last_used_at INTEGER; -- to the minute, and written late
-- The text that was replaced, and until when it still works.
ALTER TABLE api_key ADD COLUMN old_hash BLOB;
ALTER TABLE api_key ADD COLUMN old_until INTEGER;

-- Who changed what: one row for each change of the catalogue, written in its commit.
CREATE TABLE audit (
    id            INTEGER PRIMARY KEY,
    at            INTEGER NOT NULL,
    actor_key     INTEGER NOT NULL, -- 0: the router itself
    actor_name    TEXT    NOT NULL,
    actor_account TEXT    NOT NULL,
    actor_address TEXT    NOT NULL,
    action        TEXT    NOT NULL,
    kind          TEXT    NOT NULL,
    subject       TEXT    NOT NULL, -- id as users see it
    account       TEXT    NOT NULL, -- whose it is; empty: nobody's
    changed       TEXT,             -- JSON list
    before        BLOB,             -- JSON
    after         BLOB
) STRICT;
CREATE INDEX audit_by_account ON audit (account, id);
CREATE INDEX audit_by_subject ON audit (subject, id);

-- How many bytes of event data are stored for an account. The writer adds what it
-- inserts; what goes is taken away here, whoever deletes it.
CREATE TABLE stored_bytes (
    account TEXT    PRIMARY KEY,
    bytes   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO stored_bytes SELECT account, sum(length(data)) FROM event GROUP BY account;

-- +goose StatementBegin
CREATE TRIGGER event_deleted AFTER DELETE ON event BEGIN
    UPDATE stored_bytes SET bytes = bytes - length(OLD.data) WHERE account = OLD.account;
END;
-- +goose StatementEnd
