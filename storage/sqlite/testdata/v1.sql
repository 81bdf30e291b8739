BEGIN TRANSACTION;
CREATE TABLE api_key (
    id         INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL,
    account    TEXT    NOT NULL,
    admin      INTEGER NOT NULL,
    prefix     TEXT    NOT NULL,
    hash       BLOB    NOT NULL UNIQUE, -- SHA-256 of the key, which itself is not kept
    created_at INTEGER
) STRICT;
INSERT INTO "api_key" VALUES(9,'admin','acme',1,'k',X'0100000000000000000000000000000000000000000000000000000000000000',NULL);
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
INSERT INTO "attempt" VALUES(1,5,1,1000000000000000,3000,200,'','','POST','https://example.com/hooks/orders',X'0C436F6E74656E742D54797065106170706C69636174696F6E2F6A736F6E0A576562686F6F6B2D4964116576745F3031323334353637383961626311576562686F6F6B2D54696D657374616D700A3137303030303030303011576562686F6F6B2D5369676E61747572652F76312C4B356F5A667A4E39355A3955567531457366516D66564E51686E6B5A32706A396F394E444E2F482F7049343D',NULL,NULL,X'7B226E223A317D',X'0E436F6E74656E742D4C656E6774680132',X'6F6B',0,NULL,NULL,NULL);
INSERT INTO "attempt" VALUES(1,5,2,1000000000000000,3000,200,'','','POST','https://example.com/hooks/orders',X'0C436F6E74656E742D54797065106170706C69636174696F6E2F6A736F6E0A576562686F6F6B2D4964116576745F3031323334353637383961626311576562686F6F6B2D54696D657374616D700A3137303030303030303011576562686F6F6B2D5369676E61747572652F76312C4B356F5A667A4E39355A3955567531457366516D66564E51686E6B5A32706A396F394E444E2F482F7049343D',NULL,1,NULL,X'0E436F6E74656E742D4C656E6774680132',X'6F6B',0,NULL,NULL,NULL);
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
INSERT INTO "delivery" VALUES(1,5,3,2,NULL,1000000000000000,200,'','acme');
INSERT INTO "delivery" VALUES(2,5,1,0,NULL,NULL,0,'','acme');
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
INSERT INTO "event" VALUES(1,'acme','order.created',NULL,1000000000000,X'0000000000000005',NULL,X'7B226E223A317D');
INSERT INTO "event" VALUES(2,'acme','order.created','order-2',1000000000000,X'00000000000000050000000000000006','{"X-Shop":"ü"}',X'7B226E223A327D');
INSERT INTO "event" VALUES(3,'acme','order.created',NULL,1000000000000,X'0000000000000006',NULL,X'33');
CREATE TABLE event_type (
    name        TEXT    PRIMARY KEY,
    description TEXT    NOT NULL,
    schema      BLOB,
    samples     TEXT,                -- JSON array of base64: samples come back byte by byte
    version     INTEGER NOT NULL,
    created_at  INTEGER,
    updated_at  INTEGER
) STRICT, WITHOUT ROWID;
INSERT INTO "event_type" VALUES('order.created','',X'7B7D','["MQ=="]',1,NULL,NULL);
CREATE TABLE goose_db_version (
		id INTEGER PRIMARY KEY AUTOINCREMENT,
		version_id INTEGER NOT NULL,
		is_applied INTEGER NOT NULL,
		tstamp TIMESTAMP DEFAULT (datetime('now'))
	);
INSERT INTO "goose_db_version" VALUES(1,0,1,'2026-11-22 05:15:27');
INSERT INTO "goose_db_version" VALUES(2,1,1,'2026-11-22 05:15:27');
CREATE TABLE idempotency (
    key_hash BLOB    PRIMARY KEY, -- engine.KeyHash
    event_id INTEGER NOT NULL,
    digest   BLOB    NOT NULL     -- of the event's content
) STRICT, WITHOUT ROWID;
INSERT INTO "idempotency" VALUES(X'01020000000000000000000000000000',2,X'03000000000000000000000000000000');
CREATE TABLE meta (
    name  TEXT    PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "meta" VALUES('ping',0);
INSERT INTO "meta" VALUES('watermark',1);
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
INSERT INTO "subscription" VALUES(5,'acme','["*"]','https://example.com',1,'','','','whsec_x',NULL,'standard','',NULL,1,1000000000000000,1000000000000000,NULL);
CREATE INDEX event_by_account ON event (account);
CREATE INDEX event_by_type ON event (account, type);
CREATE INDEX delivery_by_due ON delivery (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX delivery_by_subscription ON delivery (subscription_id, event_id);
CREATE INDEX delivery_open_by_subscription ON delivery (subscription_id, state, event_id) WHERE state <> 3;
CREATE INDEX delivery_open_by_state ON delivery (state, event_id, subscription_id, account) WHERE state <> 3;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('goose_db_version',2);
COMMIT;
