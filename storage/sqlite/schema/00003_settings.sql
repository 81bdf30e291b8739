-- +goose Up

-- How a subscription's deliveries are made, signed, verified and named: JSON.
ALTER TABLE subscription ADD COLUMN settings TEXT;
-- Secrets that were replaced and still sign: JSON; wiped when the subscription is deleted.
ALTER TABLE subscription ADD COLUMN old_secrets TEXT;
ALTER TABLE subscription ADD COLUMN expires_at INTEGER;

ALTER TABLE event_type ADD COLUMN verify TEXT NOT NULL DEFAULT '';

-- What a key may do: JSON list; NULL is what every key could before there were scopes.
ALTER TABLE api_key ADD COLUMN scopes TEXT;

-- What is set for accounts. An account needs no row to exist.
CREATE TABLE account (
    name       TEXT    PRIMARY KEY,
    settings   TEXT    NOT NULL, -- JSON
    version    INTEGER NOT NULL,
    created_at INTEGER,
    updated_at INTEGER
) STRICT, WITHOUT ROWID;
