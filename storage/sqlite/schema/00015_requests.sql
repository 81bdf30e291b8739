-- +goose Up

-- Requests of the API that carry an idempotency key, and their answers.
CREATE TABLE request (
    id       INTEGER PRIMARY KEY, -- engine.ID
    account  TEXT    NOT NULL,
    key_hash BLOB    NOT NULL UNIQUE, -- engine.KeyHash
    digest   BLOB    NOT NULL,        -- of what is asked for
    answer   TEXT                     -- NULL until it has one; sealed: it may show a secret
) STRICT;
CREATE INDEX request_by_account ON request (account, id);
