-- +goose Up

-- The hot tables: event, delivery, attempt. They lie on disk in the order in which events
-- came, since ids grow with time; a random key costs a page of the log for each row.

-- An event, written once. Its deliveries are its targets: a delivery gets a row of its own
-- only with its first outcome. Data stands last, so that reading the columns before it
-- does not walk the pages of a large body.
CREATE TABLE event (
    id      INTEGER PRIMARY KEY, -- engine.ID: ms since 2020 (42 bits) | node (8) | sequence (13)
    account TEXT    NOT NULL,
    type    TEXT    NOT NULL,
    key     TEXT,                -- the id that the publisher gave it
    time    INTEGER NOT NULL,    -- ms since 1970
    targets BLOB    NOT NULL,    -- subscription ids, 8 bytes each, big-endian
    headers TEXT,                -- JSON object
    data    BLOB    NOT NULL
) STRICT;
-- Each index ends in the rowid, which is id: they are (account, id) and (account, type, id).
CREATE INDEX event_by_account ON event (account);
CREATE INDEX event_by_type ON event (account, type);

-- Keys that name an event that is stored already. The one table in random order, so only
-- events that were given a key pay for it: about 20 µs more each beside 300,000 rows.
CREATE TABLE idempotency (
    key_hash BLOB    PRIMARY KEY, -- engine.KeyHash
    event_id INTEGER NOT NULL,
    digest   BLOB    NOT NULL     -- of the event's content
) STRICT, WITHOUT ROWID;

-- Where a delivery stands. A first success is one row here, one in delivery_by_subscription
-- and one in attempt; the other indexes hold only deliveries that did not succeed.
CREATE TABLE delivery (
    event_id        INTEGER NOT NULL,
    subscription_id INTEGER NOT NULL,
    state           INTEGER NOT NULL, -- engine.State: 1 pending, 2 failed, 3 succeeded, 4 dead, 5 dropped
    attempts        INTEGER NOT NULL,
    next_at         INTEGER,          -- µs since 1970; set in state 2 only
    last_at         INTEGER,          -- µs since 1970; when the last attempt began
    status          INTEGER NOT NULL, -- last HTTP status, 0 where there was none
    error           TEXT    NOT NULL,
    account         TEXT,             -- the event's; set once the state is or was other than 3
    PRIMARY KEY (event_id, subscription_id)
) STRICT, WITHOUT ROWID;
-- Retries in the order in which they are due.
CREATE INDEX delivery_by_due ON delivery (next_at) WHERE next_at IS NOT NULL;
-- One subscription's deliveries.
CREATE INDEX delivery_by_subscription ON delivery (subscription_id, event_id);
-- One subscription's backlog, and its failed, dead or dropped deliveries.
CREATE INDEX delivery_open_by_subscription ON delivery (subscription_id, state, event_id) WHERE state <> 3;
-- Everybody's, by state: the dead letters of an account.
CREATE INDEX delivery_open_by_state ON delivery (state, event_id, subscription_id, account) WHERE state <> 3;

-- Each attempt of a delivery, as it was sent and answered. Times are µs, lists of strings
-- are length-prefixed (codec.go).
CREATE TABLE attempt (
    event_id         INTEGER NOT NULL,
    subscription_id  INTEGER NOT NULL,
    n                INTEGER NOT NULL, -- 1 is the first
    at               INTEGER NOT NULL,
    duration         INTEGER NOT NULL,
    status           INTEGER NOT NULL,
    error            TEXT    NOT NULL,
    phase            TEXT    NOT NULL,
    method           TEXT    NOT NULL,
    url              TEXT    NOT NULL,
    request_headers  BLOB,
    request_plain    TEXT,             -- the payload format that makes the body again: it is not stored then
    request_same     INTEGER,          -- the n of the earlier attempt that sent the same body: nor is it then
    request_body     BLOB,
    response_headers BLOB,
    response_body    BLOB,
    truncated        INTEGER NOT NULL, -- 1 where the answer was longer
    script_hash      TEXT,
    script_cpu       INTEGER,
    script_console   BLOB,
    PRIMARY KEY (event_id, subscription_id, n)
) STRICT, WITHOUT ROWID;

-- What the store must remember of itself: 'watermark' (engine.DeliveryLog), 'ping'.
CREATE TABLE meta (
    name  TEXT    PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta (name, value) VALUES ('watermark', 0), ('ping', 0);

-- The catalogue. Lists and maps are JSON, times µs since 1970.

CREATE TABLE subscription (
    id             INTEGER PRIMARY KEY,
    account        TEXT    NOT NULL,
    events         TEXT,
    target_url     TEXT    NOT NULL,
    active         INTEGER NOT NULL,
    reason         TEXT    NOT NULL,
    filter         TEXT    NOT NULL,
    transform      TEXT    NOT NULL,
    secret         TEXT    NOT NULL, -- wiped when it is deleted
    headers        TEXT,             -- wiped too: they may hold credentials
    payload_format TEXT    NOT NULL,
    description    TEXT    NOT NULL,
    metadata       TEXT,
    version        INTEGER NOT NULL,
    created_at     INTEGER,
    updated_at     INTEGER,
    deleted_at     INTEGER           -- the row stays, so that its deliveries point somewhere
) STRICT;

CREATE TABLE event_type (
    name        TEXT    PRIMARY KEY,
    description TEXT    NOT NULL,
    schema      BLOB,
    samples     TEXT,                -- JSON array of base64: samples come back byte by byte
    version     INTEGER NOT NULL,
    created_at  INTEGER,
    updated_at  INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE api_key (
    id         INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL,
    account    TEXT    NOT NULL,
    admin      INTEGER NOT NULL,
    prefix     TEXT    NOT NULL,
    hash       BLOB    NOT NULL UNIQUE, -- SHA-256 of the key, which itself is not kept
    created_at INTEGER
) STRICT;
