-- +goose Up

CREATE TABLE script (
    id          INTEGER PRIMARY KEY,
    account     TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    kind        TEXT    NOT NULL, -- "filter" or "transform"
    description TEXT    NOT NULL,
    cases       BLOB,             -- JSON, see scripts/suite
    live        INTEGER NOT NULL, -- number of the live version, 0 before there is one
    version     INTEGER NOT NULL,
    created_at  INTEGER,
    updated_at  INTEGER,
    deleted_at  INTEGER           -- the row stays, so that attempts point somewhere
) STRICT;
CREATE UNIQUE INDEX script_by_name ON script (account, name) WHERE deleted_at IS NULL;

-- Written once, never changed.
CREATE TABLE script_version (
    script_id  INTEGER NOT NULL,
    number     INTEGER NOT NULL, -- 1 is the first
    source     TEXT    NOT NULL,
    hash       TEXT    NOT NULL,
    author     TEXT    NOT NULL,
    note       TEXT    NOT NULL,
    created_at INTEGER,
    PRIMARY KEY (script_id, number)
) STRICT, WITHOUT ROWID;

-- Which script a subscription uses instead of a source of its own; version 0 is the live one.
ALTER TABLE subscription ADD COLUMN filter_script INTEGER NOT NULL DEFAULT 0;
ALTER TABLE subscription ADD COLUMN filter_version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE subscription ADD COLUMN transform_script INTEGER NOT NULL DEFAULT 0;
ALTER TABLE subscription ADD COLUMN transform_version INTEGER NOT NULL DEFAULT 0;

-- Which version an attempt ran; NULL where the subscription had a source of its own.
ALTER TABLE attempt ADD COLUMN script_id INTEGER;
ALTER TABLE attempt ADD COLUMN script_version INTEGER;
