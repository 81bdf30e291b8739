-- +goose Up

-- How the target of a subscription fares; no row: well. Times are µs since 1970.
CREATE TABLE health (
    subscription_id INTEGER PRIMARY KEY,
    failing_since   INTEGER,          -- the first failure after the last success
    failures        INTEGER NOT NULL, -- attempts that failed since
    last_error      TEXT    NOT NULL,
    next_probe_at   INTEGER,          -- while its circuit is open
    probe_delay     INTEGER NOT NULL, -- µs; what next_probe_at was set with
    resumed_at      INTEGER           -- when the subscription was last switched on again
) STRICT;

-- When a delivery was asked for again by hand: its age counts from then.
ALTER TABLE delivery ADD COLUMN renewed_at INTEGER;
