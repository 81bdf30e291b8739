-- +goose Up

-- The numbers that an event has in the sequences of its targets: 8 bytes each, big-endian,
-- in the order of targets, 0 where the target is not numbered. NULL where none is.
ALTER TABLE event ADD COLUMN sequences BLOB;

-- The last number of each numbered subscription.
CREATE TABLE sequence (
    subscription_id INTEGER PRIMARY KEY,
    last            INTEGER NOT NULL
) STRICT;

-- Secrets of the router's own, in base64. They are sealed (seal.go).
CREATE TABLE secret (
    id    INTEGER PRIMARY KEY,
    name  TEXT    NOT NULL UNIQUE,
    value TEXT    NOT NULL
) STRICT;
