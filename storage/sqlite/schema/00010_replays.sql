-- +goose Up

CREATE TABLE replay (
    id          INTEGER PRIMARY KEY,
    account     TEXT    NOT NULL,
    status      TEXT    NOT NULL, -- engine.ReplayStatus
    job         TEXT    NOT NULL, -- JSON: what is asked for, and how far it is
    created_at  INTEGER,
    updated_at  INTEGER,
    finished_at INTEGER           -- NULL as long as it is not finished
) STRICT;
CREATE INDEX replay_by_account ON replay (account);
CREATE INDEX replay_unfinished ON replay (id) WHERE finished_at IS NULL;
