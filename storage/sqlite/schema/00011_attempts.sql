-- +goose Up

-- 1 if the request was sent a second time, on a new connection; NULL if not.
ALTER TABLE attempt ADD COLUMN resent INTEGER;
-- Why the body of the answer broke off; NULL if it did not.
ALTER TABLE attempt ADD COLUMN body_error TEXT;
