-- +goose Up

-- The keys with which secrets here may be sealed (storage/vault), by their ids. One that is
-- not listed has sealed nothing. Columns that hold secrets are listed in seal.go.
CREATE TABLE encryption_key (
    id    TEXT    PRIMARY KEY,
    clean INTEGER NOT NULL -- 1: no secret is left that it did not seal, nor a trace of one
) STRICT, WITHOUT ROWID;

-- What a target has to echo moves out of the settings, so that every secret has a column.
ALTER TABLE subscription ADD COLUMN verification_secret TEXT;
UPDATE subscription
SET verification_secret = settings ->> '$.verification.secret', settings = json_remove(settings, '$.verification.secret')
WHERE settings ->> '$.verification.secret' IS NOT NULL;

-- Retention removes the keys of the events that it removes. Events come in the order of
-- their ids, so this index grows at its end.
CREATE INDEX idempotency_by_event ON idempotency (event_id);
