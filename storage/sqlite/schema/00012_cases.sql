-- +goose Up

-- Test cases belong to the version that they were written for: going back to an older one
-- asks for what it was made to do. script.cases holds those of a script that has no version yet.
ALTER TABLE script_version ADD COLUMN cases BLOB;
-- When it went live, the last time; NULL: never. µs since 1970.
ALTER TABLE script_version ADD COLUMN live_at INTEGER;

-- The cases there are were written for the live version, or for one after it.
UPDATE script_version SET cases = s.cases
FROM script s WHERE s.id = script_version.script_id AND script_version.number >= s.live;
UPDATE script_version SET live_at = s.updated_at
FROM script s WHERE s.id = script_version.script_id AND script_version.number = s.live;
