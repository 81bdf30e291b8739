-- +goose Up

-- Retention removes events in ranges, and counts what it frees: the writer subtracts it in the
-- same commit. A trigger ran once for every row.
DROP TRIGGER event_deleted;
