-- +goose Up

-- 1 if the time was up before the target's response came; NULL otherwise.
ALTER TABLE attempt ADD COLUMN timed_out INTEGER;
